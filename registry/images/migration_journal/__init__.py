"""Migration journal: what a migration writes into the bucket, the places of blobs and the state of repositories."""

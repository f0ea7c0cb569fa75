"""Migration journal: what a migration writes into the bucket, the locations of blobs and the state of repositories."""

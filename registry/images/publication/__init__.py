"""Publication: how blobs and manifests become members of a repository."""

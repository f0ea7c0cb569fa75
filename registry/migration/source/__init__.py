"""Source: the registry that filled the bucket, and what is read of it."""

"""Object stores: what the drivers of buckets have in common."""

"""Usage: what takes room on storage, and on whose account."""

"""Stowage, an OCI container registry that lets its owner change their mind about storage."""

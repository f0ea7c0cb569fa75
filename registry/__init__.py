"""Stowage, an OCI container registry that lets its owner change their mind about storage."""

DISTRIBUTION = "stowage-registry"
"""The name that is installed; ``registry`` is that of the package in it and of the command."""

"""Adopt: Stowage serves everything from the source's objects."""

"""Mirrors: pulls through an empty cache, beside those of the peers."""

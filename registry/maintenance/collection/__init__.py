"""Collection: what is out of use is freed while the registry serves (proposal 0013)."""

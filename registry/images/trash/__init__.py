"""The trash: what was deleted and can be restored (proposal 0013)."""

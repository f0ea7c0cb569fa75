"""Rows of rebuilds: how far one has come, so that the next goes on there."""

"""Connections: those to the cache DB that are kept, and whether a silent database is asked."""

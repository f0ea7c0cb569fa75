"""Collection at scale: how long it takes, what it needs, and what clients notice of it; beside zot's."""

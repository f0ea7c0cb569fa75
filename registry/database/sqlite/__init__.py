"""SQLite: one writer at a time, commits in groups, and the number of the database's data."""

"""Rules: which identity may do what in which repository."""

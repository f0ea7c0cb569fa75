"""Rollback: the source gets back what it had, and what was pushed since."""

"""Rows of what is out of use: the trash, and what is doomed."""

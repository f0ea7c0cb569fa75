"""The cache DB: tables and queries."""

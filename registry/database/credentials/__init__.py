"""Rows about credentials that are on storage or in browsers: when keys were used, and sessions."""

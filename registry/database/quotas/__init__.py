"""Quotas: what their repositories have, in rows and by counting."""

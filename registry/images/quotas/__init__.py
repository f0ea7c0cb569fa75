"""Quotas: whether there is room for a blob."""

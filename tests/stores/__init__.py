"""Stores, database servers and proxies that tests run registries over, and in front of them."""

"""Fetching: what comes from an upstream, once for all processes, and read while it comes (I15)."""

"""Metrics: what is counted of requests, of storage and of the jobs, and the tallies in front of them."""

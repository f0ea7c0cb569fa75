"""Mirrors: what replicas tell each other of content that comes from upstreams."""

"""Mirrors: repositories whose content comes from upstreams, and what is known of these."""

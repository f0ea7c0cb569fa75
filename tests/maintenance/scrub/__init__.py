"""Scrub."""

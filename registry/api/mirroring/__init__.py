"""Mirrors at the HTTP edge: their entrances, and answers that wait for an upstream and hold no thread."""

"""Scrub: every object read whole again, wrong bytes taken out of service, rows compared with what storage has."""

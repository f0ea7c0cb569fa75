"""Retention: which tags stay, decided by rules, reported and carried out."""

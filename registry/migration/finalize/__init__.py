"""Finalize: source objects whose copies are verified are deleted."""

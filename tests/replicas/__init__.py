"""Replicas: registries over object stores, several at once."""

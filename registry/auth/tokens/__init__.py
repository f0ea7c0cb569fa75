"""Tokens of the registry: what a client asks for, what it gets, and what that proves."""

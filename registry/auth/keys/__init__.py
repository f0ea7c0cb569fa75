"""API keys: random secrets that stand for a user, or for themselves, and may be bounded, end and be revoked."""

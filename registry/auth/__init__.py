"""Access: identities and what proves them, rules, tokens."""

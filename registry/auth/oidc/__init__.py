"""OpenID Connect: identities that providers vouch for, by their tokens."""

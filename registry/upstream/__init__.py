"""The HTTP client for servers of other organisations: challenges, tokens, addresses, redirects, resumption."""

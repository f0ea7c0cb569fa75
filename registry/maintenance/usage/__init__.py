"""Usage: how many bytes repositories and tags take, and what deleting them would free."""

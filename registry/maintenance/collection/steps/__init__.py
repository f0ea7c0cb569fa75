"""The steps of a run, each over what stood there before it (proposal 0013)."""

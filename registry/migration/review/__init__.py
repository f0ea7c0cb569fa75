"""Review: what a migration would do and cost, before anything is written."""

"""The benchmark harness: its arithmetic, its client, and that it runs."""

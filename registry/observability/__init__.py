"""What operators see of a running registry: logs and metrics."""

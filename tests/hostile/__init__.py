"""What arrives from clients that are broken, curious or malicious."""

"""The HTTP edge of the OCI API: one module per chapter of the distribution specification."""

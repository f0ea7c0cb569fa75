"""Web: what operators and people ask over HTTP, beside the OCI API."""

"""Support: servers, stores, clients and content that tests use."""

"""The domain: repositories, blobs and their locations, upload sessions, records and the index."""

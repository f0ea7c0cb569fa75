"""Direct I/O: bytes of large blobs between socket and file, past the application."""

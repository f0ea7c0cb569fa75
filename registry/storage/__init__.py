"""Where bytes are kept: the StorageDriver interface, its drivers, and decorators with the same interface."""

"""Decorators of a driver: each is a StorageDriver around another one."""

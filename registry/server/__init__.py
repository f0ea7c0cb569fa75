"""Putting everything together: the application of one process, and the processes."""

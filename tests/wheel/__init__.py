"""What users install: the wheel, in an environment of its own."""

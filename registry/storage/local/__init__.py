"""Local disk: the driver, and what it does with files."""

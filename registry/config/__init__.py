"""Settings: their keys, the file and the environment that set them, and what is wrong with them."""

"""Login in a browser: attempts that the browser itself keeps, and sessions that all processes share."""

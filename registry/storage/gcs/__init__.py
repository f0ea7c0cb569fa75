"""Google Cloud Storage: the driver, and the requests that it sends."""

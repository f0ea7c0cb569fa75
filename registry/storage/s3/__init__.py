"""S3: the driver, and the requests that it sends."""

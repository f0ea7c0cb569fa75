"""Administration: ``/api/v1``, as the page and scripts use it, by credentials or by the session of a browser."""

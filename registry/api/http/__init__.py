"""HTTP: what the chapters of the API share about requests and answers."""

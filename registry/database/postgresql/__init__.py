"""PostgreSQL: statements in a pipeline, and the versions of repositories."""

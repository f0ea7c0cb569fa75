"""What a release before this one has written, and such a release beside this one, on one storage and one database."""

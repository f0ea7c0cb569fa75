"""What keeps database and storage in agreement."""

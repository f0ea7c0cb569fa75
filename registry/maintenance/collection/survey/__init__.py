"""What a collection makes sure of before its first delete: that its database knows all that storage has."""

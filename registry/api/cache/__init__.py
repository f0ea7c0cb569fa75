"""Response cache: answers from memory that is known to be current."""

"""What a mirror shows its upstream to be let in: a password from a file, or a token that a cloud gives and renews."""

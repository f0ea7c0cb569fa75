"""Passwords: those of users in a htpasswd file, verified without hurting the rest."""

"""Uploads: sessions that gather bytes, how many there may be, and how they end."""

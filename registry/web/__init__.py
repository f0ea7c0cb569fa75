"""The administration API and the page."""

"""The registry over stores that are far away: real ones on loopback, what they cost, and how they fail."""

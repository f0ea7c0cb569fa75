"""What runs beside requests: leases and the schedule."""

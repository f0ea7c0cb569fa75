"""Work beside requests: leases and the schedule of jobs."""

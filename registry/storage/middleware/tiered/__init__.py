"""The tier: directories of this machine in front of a bucket, with verified bytes by their digest."""

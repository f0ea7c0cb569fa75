"""The same registries over one S3 store.

Each row: ours to the best of the peers. ``make bench-s3`` runs all of them.
"""

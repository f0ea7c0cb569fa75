"""Speed and memory beside other registries: ``python -m benchmarks``.

Every server runs alone, on one disk, with its request log on; the same client puts the same load on each. A server
is data (`servers`), a row of the table is data (`rows`), a scenario is the work that fills some rows (`scenarios`).
"""

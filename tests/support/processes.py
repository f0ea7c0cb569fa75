"""Processes: interpreters for functions of tests, forked from one that has loaded what these need.

A spawned interpreter would load it again each time, which takes longer than most of the functions.
"""

from __future__ import annotations

import multiprocessing
from functools import cache
from multiprocessing.context import ForkServerContext

LOADED = ["registry.images.registry", "registry.database.schema", "tests.storage.workers"]


@cache
def processes() -> ForkServerContext:
    """The context of ``multiprocessing`` for this run: no process has a thread or a lock of the tests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context

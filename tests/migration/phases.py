"""The phases after adoption, each by itself, over a bucket in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from registry.images.registry import Registry
from registry.migration.command import Run
from registry.migration.consolidate.consolidate import consolidate
from registry.migration.context import Context, RunOptions
from registry.migration.progress import OnProgress, silent
from registry.migration.report import Report
from registry.migration.review.requests import Tally
from tests.migration.adopting import Bucket


@contextmanager
def reading(
    bucket: Bucket,
    registry: Registry | None = None,
    *,
    parallel: int = 1,
    on_progress: OnProgress = silent,
    storage: dict[str, Any] | None = None,
) -> Iterator[Context]:
    """A context in a process of its own unless ``registry`` is one, after the listing."""
    registry = registry or bucket.registry()
    chosen = bucket.settings(parallel=parallel)
    if storage is not None:
        chosen = chosen.model_copy(update={"storage": chosen.storage.model_copy(update=storage)})
    run = Run(registry, chosen, RunOptions(), Tally(), on_progress)
    registry.originals.ensure(again=True)
    with run._reading(run._journal.resume()) as context:
        assert context is not None
        yield context


def consolidated(bucket: Bucket, registry: Registry | None = None, **more: Any) -> Report:
    """Copy what is not copied."""
    with reading(bucket, registry, **more) as context:
        return consolidate(context)


def finalizing(bucket: Bucket, registry: Registry | None = None) -> Report:
    """Delete what is copied, as the command does."""
    return Run(registry or bucket.registry(), bucket.settings(parallel=1), RunOptions(), Tally()).finalize()

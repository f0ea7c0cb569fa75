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
    core: Registry | None = None,
    *,
    parallel: int = 1,
    on_progress: OnProgress = silent,
    storage: dict[str, Any] | None = None,
) -> Iterator[Context]:
    """A context in a process of its own unless ``core`` is one, after the listing."""
    core = core or bucket.core()
    chosen = bucket.settings(parallel=parallel)
    if storage is not None:
        chosen = chosen.model_copy(update={"storage": chosen.storage.model_copy(update=storage)})
    run = Run(core, chosen, RunOptions(), Tally(), on_progress)
    core.originals.ensure(again=True)
    with run._reading(run._journal.resume()) as context:
        assert context is not None
        yield context


def consolidated(bucket: Bucket, core: Registry | None = None, **more: Any) -> Report:
    """Copy what is not copied."""
    with reading(bucket, core, **more) as context:
        return consolidate(context)


def finalizing(bucket: Bucket, core: Registry | None = None) -> Report:
    """Delete what is copied, as the command does."""
    return Run(core or bucket.core(), bucket.settings(parallel=1), RunOptions(), Tally()).finalize()

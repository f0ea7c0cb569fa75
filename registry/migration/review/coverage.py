"""Whether a plan that was kept covers the bucket as it is now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.migration.review.counts import Counter
from registry.migration.source.bucket import bucket_of, root_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.migration.context import Context
    from registry.migration.review.saved_plan import SavedPlan


def differences(reviewed: SavedPlan, context: Context) -> Iterator[str]:
    """What is not as it was reviewed, each for a person; nothing where the plan covers all.

    Ours is covered, and so are uploads that the original has under way. An index that both share is compared as the
    original had it when it was taken.
    """
    settings = context.settings
    here = (context.layout.kind, context.driver.name, bucket_of(settings), root_of(settings))
    planned = (reviewed.layout, reviewed.driver, reviewed.bucket, reviewed.root)
    if here != planned:
        yield f"the plan is of {_place(planned)}, this is {_place(here)}"
        return
    counting = Counter(context.inventory, context.layout)
    left = dict(reviewed.repositories)
    for line in counting.repositories():
        before = left.pop(line.repository, None)
        if before is None:
            yield f"{line.repository}: not in the plan"
        elif before != (line.fingerprint, line.index):
            yield f"{line.repository}: changed since"
    yield from (f"{name}: gone since" for name in left)
    now = {line.shard: line.fingerprint for line in counting.shards()}
    for shard in sorted({*now, *reviewed.shards}):
        if now.get(shard) != reviewed.shards.get(shard):
            yield f"blobs {shard.replace('-', ':')}...: others than in the plan"


def _place(values: tuple[str | None, ...]) -> str:
    layout, driver, bucket, root = values
    return f"a {layout} layout in {driver} bucket {bucket or '-'} below {root or '/'}"

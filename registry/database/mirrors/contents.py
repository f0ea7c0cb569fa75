"""*Contents* of mirrors: how much of each is here, and on its way, by counting rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

_OF_MIRROR = "r.name >= :low AND r.name < :high"
_CONTENTS = Statement(
    f"SELECT (SELECT count(*) FROM repository r WHERE {_OF_MIRROR} AND r.hidden = 0),"  # noqa: S608 - constants
    f" (SELECT count(*) FROM repository r JOIN tag t ON t.repository_id = r.id WHERE {_OF_MIRROR}),"
    " (SELECT CAST(coalesce(sum(b.size), 0) AS BIGINT) FROM blob b WHERE b.id IN"
    f" (SELECT m.blob_id FROM repository r JOIN membership m ON m.repository_id = r.id WHERE {_OF_MIRROR})),"
    " (SELECT count(*) FROM upstream_fetch f WHERE f.mirror = :mirror AND f.state = 'active'"
    " AND f.holder IS NOT NULL AND f.clock = clock_name() AND f.deadline >= clock_now())"
)


class ContentsRow(NamedTuple):
    """What of a mirror is here."""

    repositories: int
    tags: int
    bytes: int
    """Those of its blobs, each once."""
    fetches: int
    """Blobs that some process brings now."""


def count(connection: Transaction, mirror: str, prefix: str) -> Later[ContentsRow]:
    """Count what of a mirror is here; ``prefix`` is its own. It looks at each of its tags and blobs."""
    values = {"mirror": mirror, "low": f"{prefix}/", "high": f"{prefix}0"}  # "0" is the character after "/"
    return connection.execute(_CONTENTS, values).later(lambda rows: ContentsRow(*rows.one()))

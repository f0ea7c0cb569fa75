"""*Conditions* of mirrors, for operators: how each upstream does, as all replicas know it, and what of it is here."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from registry.database.mirrors import contents, mirror_states
from registry.mirror.patient_upstream import FAILS, SECONDS, configuration_of
from registry.oci.moment import to_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.config.mirror_sections import MirrorSettings
    from registry.database.engine import Database
    from registry.database.mirrors.contents import ContentsRow
    from registry.database.mirrors.mirror_states import DescribedRow


class Condition(enum.StrEnum):
    """How an upstream does."""

    OK = "ok"
    PAUSED = "paused"
    """It wants no request for a while."""
    GIVEN_UP = "given up"
    """It has not answered some times in a row, and is asked seldom."""
    OFFLINE = "offline"
    """The settings say that it is not asked."""


class MirrorCondition(NamedTuple):
    """A mirror."""

    name: str
    prefix: str
    upstreams: tuple[str, ...]
    """Hosts, in the order in which they are asked."""
    condition: Condition
    asked_in: float
    """Seconds until it is asked again; 0 if it is asked whenever a client needs it."""
    remaining: int | None
    """Requests that its upstream said are left; None if it does not say."""
    error: str | None
    """Why a request failed last, with these settings; None if none did."""
    failed_at: float | None
    """When that was, in seconds since the epoch."""
    contents: ContentsRow

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        failed_at = None if self.failed_at is None else to_text(self.failed_at)
        return {
            "name": self.name,
            "prefix": self.prefix,
            "upstreams": list(self.upstreams),
            "state": str(self.condition),
            "asked_in": round(self.asked_in, 1),
            "remaining": self.remaining,
            "error": None if self.error is None else {"message": self.error, "at": failed_at},
            **self.contents._asdict(),
        }


def conditions(database: Database, mirrors: Sequence[MirrorSettings]) -> Iterator[MirrorCondition]:
    """That of each mirror, in the order of the settings. It counts what is here. Raises DatabaseError."""
    for each in mirrors:
        with database.autocommit() as connection:
            described = mirror_states.describe(connection, each.name)
            counted = contents.count(connection, each.name, each.prefix).get()
            row = described.get()
        known = row if row is not None and row.configuration == configuration_of(each) else None
        condition, asked_in = (Condition.OFFLINE, 0.0) if each.offline else _condition(known)
        yield MirrorCondition(
            each.name,
            each.prefix,
            tuple(urlsplit(url).netloc for url in each.url),
            condition,
            asked_in,
            known.remaining if known is not None else None,
            known.error if known is not None else None,
            known.failed_at if known is not None else None,
            counted,
        )


def _condition(row: DescribedRow | None) -> tuple[Condition, float]:
    if row is not None and 0 < row.pause <= mirror_states.LONGEST:
        return Condition.PAUSED, row.pause
    if row is not None and row.fails >= FAILS:
        return Condition.GIVEN_UP, min(max(row.wait, 0.0), SECONDS)
    return Condition.OK, 0.0

"""*Patient upstream*: one that is not asked while it wants no request or does not answer, whichever replica saw that.

An upstream that limits is left alone as long as it says, else a minute, doubled to 15. One that has not answered three
times in a row gets one real request each 30 seconds, which finds out whether it answers again. Other settings begin
anew. The state is a row, so that all processes wait together.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from registry.database.mirrors import mirror_states
from registry.upstream.download import Download
from registry.upstream.errors import (
    AddressRefused,
    AnswerInvalid,
    TokenUnavailable,
    UpstreamDenied,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from registry.upstream.rate_limit import pause_after, remaining

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.config.mirror_sections import MirrorSettings
    from registry.database.engine import Database
    from registry.database.mirrors.mirror_states import MirrorStateRow
    from registry.observability.metrics.upstream_metrics import UpstreamMetrics
    from registry.upstream.answer import Answer
    from registry.upstream.download import Goal
    from registry.upstream.url import Url

FAILS: Final = 3
"""Requests in a row without an answer, after which an upstream is asked seldom."""
SECONDS: Final = 30.0
"""Between two requests to an upstream that does not answer."""
_ERROR: Final = 500
"""Characters of an error that are kept."""

log = structlog.get_logger(__name__)


def configuration_of(settings: MirrorSettings) -> str:
    """What names these settings: what was found out with other ones counts no more."""
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()


class Asked(Protocol):
    """What it asks; ``registry.upstream.client.Upstream`` is one."""

    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str = "",
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """See Upstream."""


class PagesAsked(Asked, Protocol):
    """An upstream whose lists have pages."""

    def request_at(
        self,
        method: str,
        url: Url,
        *,
        scope: str = "",
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """See Upstream."""


class UpstreamGivenUp(UpstreamUnavailable):
    """The upstream did not answer some times in a row, and was not asked."""

    def __init__(self, message: str, seconds: float) -> None:
        """``seconds`` until it may be asked."""
        super().__init__(message)
        self.seconds = seconds


class PatientUpstream:
    """Any thread."""

    def __init__(
        self, settings: MirrorSettings, upstream: PagesAsked, database: Database, metrics: UpstreamMetrics | None = None
    ) -> None:
        self.name = settings.name
        self._metrics = metrics
        self._upstream = upstream
        self._database = database
        self._configuration = configuration_of(settings)
        self._lock = threading.Lock()
        self._has_begun = False

    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str = "",
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """See Upstream. Raises UpstreamGivenUp, and UpstreamThrottled without a request while a pause lasts."""
        ask = self._upstream.request
        return self._noting(lambda: ask(method, path, scope=scope, headers=headers, seconds=seconds))

    def request_at(
        self,
        method: str,
        url: Url,
        *,
        scope: str = "",
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """As ``request``; see Upstream. A server elsewhere counts as the upstream, as one of a redirect does."""
        ask = self._upstream.request_at
        return self._noting(lambda: ask(method, url, scope=scope, headers=headers, seconds=seconds))

    def _noting(self, ask: Callable[[], Answer]) -> Answer:
        """The answer; what it says of the upstream is noted."""
        self._begin()
        before = self._require_open()
        try:
            answer = ask()
        except (UpstreamThrottled, TokenUnavailable) as error:
            self._note_limit(error, before)
            raise
        except UpstreamUnavailable as error:
            self._note_failure(error)
            raise
        except (UpstreamDenied, AddressRefused, AnswerInvalid) as error:
            self._note_answer(before)
            with self._database.statement() as connection:
                mirror_states.note(connection, self.name, error=str(error)[:_ERROR], seconds=SECONDS)
            raise
        self._note_answer(before, remaining(answer.headers))
        return answer

    def download(self, path: str, *, scope: str, goal: Goal) -> Download:
        """See Upstream: its resumptions wait as other requests do."""
        return Download(self, path, scope, goal, self._metrics)

    def _begin(self) -> None:
        """Once: forget what was found out with other settings."""
        with self._lock:
            if not self._has_begun:
                with self._database.transaction(durable=False) as connection:
                    mirror_states.begin(connection, self.name, self._configuration)
                self._has_begun = True

    def _require_open(self) -> MirrorStateRow | None:
        """The state before the request. Raises UpstreamThrottled, UpstreamGivenUp."""
        with self._database.autocommit() as connection:
            row = mirror_states.find(connection, self.name).get()
        if row is None:
            return None
        if row.is_paused:
            raise UpstreamThrottled(f"the upstream wants no request now: {row.error}", row.pause)
        if row.fails >= FAILS:
            with self._database.statement() as connection:
                may_ask = mirror_states.claim(connection, self.name, seconds=SECONDS)
            if not may_ask:
                message = f"the upstream has not answered {row.fails} times, and is asked again soon: {row.error}"
                raise UpstreamGivenUp(message, min(max(row.wait, 1.0), SECONDS))
        return row

    def _note_limit(self, error: UpstreamThrottled | TokenUnavailable, before: MirrorStateRow | None) -> None:
        if isinstance(error, TokenUnavailable) and error.seconds is None:
            self._note_failure(error)
            return
        error.seconds = pause_after(before.limits if before is not None else 0, error.seconds)
        log.warning("an upstream wants fewer requests", mirror=self.name, seconds=error.seconds, reason=str(error))
        with self._database.statement() as connection:
            mirror_states.pause(connection, self.name, seconds=error.seconds, error=str(error)[:_ERROR])

    def _note_failure(self, error: UpstreamUnavailable) -> None:
        with self._database.statement() as connection:
            mirror_states.fail(connection, self.name, seconds=SECONDS, error=str(error)[:_ERROR])

    def _note_answer(self, before: MirrorStateRow | None, count: int | None = None) -> None:
        has_recovered = before is not None and (before.fails > 0 or before.limits > 0)
        has_count = count is not None and (before is None or before.remaining != count)
        if not (has_recovered or has_count):
            return
        with self._database.transaction(durable=False) as connection:
            if has_recovered:
                mirror_states.answer(connection, self.name)
            if count is not None:
                mirror_states.set_remaining(connection, self.name, count)

"""What every route of the API works with: the core, the pool of threads that runs it, and the rules of the edge.

Tests: ``tests/server/test_drain.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from registry.api.cache.postgresql import PostgresqlFreshness, connect
from registry.api.cache.response_cache import ResponseCache
from registry.api.cache.sqlite import SqliteFreshness
from registry.api.guard import open_guard
from registry.api.http.audit import Audit
from registry.api.http.byte_turns import ByteTurns
from registry.api.http.challenges import Challenges
from registry.api.http.forwarding import Forwarding
from registry.api.http.redirects import Redirects
from registry.api.http.request_body import Receivers
from registry.api.http.upload_memory import UploadMemory
from registry.api.http.urls import ExternalUrls
from registry.api.mirroring.mirror_edge import open_mirrors
from registry.api.threads import ThreadPool
from registry.cores import cores
from registry.database.errors import DatabaseError
from registry.database.sqlite.repository_versions import RepositoryVersions

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.api.cache.freshness import Freshness
    from registry.config.access_sections import AccessSettings
    from registry.config.settings import Settings
    from registry.database.engine import Database
    from registry.images.registry import Registry
    from registry.mirror.names import MirroredName
    from registry.observability.audit import AuditLog
    from registry.observability.metrics.upstream_metrics import UpstreamMetrics

CLOSE_SECONDS = 5.0
"""How long calls may take to end when the process does; what hangs is left to the next start (I8)."""

P = ParamSpec("P")
T = TypeVar("T")


class ApiContext:
    """One per process. The asynchronous side of the core."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        audit_log: AuditLog | None = None,
        upstream_metrics: UpstreamMetrics | None = None,
    ) -> None:
        """Raises ConfigError."""
        self.registry = registry
        self.settings = settings
        """Those of the start; ``take_access`` may have brought other rules."""
        self._access = settings.access
        self.idle_timeout = settings.http.idle_timeout
        """Seconds for which a body may stop. An attribute of the settings costs ten times as much."""
        forwarding = Forwarding(settings.http.trusted_proxies)
        self.urls = ExternalUrls(settings.http, forwarding)
        self._calls = ThreadPool(settings.limits.threads, "core", settings.limits.queue_timeout)
        guard = self._guard = open_guard(settings, registry.backends, forwarding, self.run)
        self.access = guard.access
        self.authentication = guard.authentication
        self.token_service = guard.token_service
        self.has_stale_rules = False
        """Whether the file of settings has other rules, which are wrong."""
        self.audit = Audit(audit_log, guard.access.rights, guard.find_user)
        self.challenges = Challenges(self.urls, guard.token_settings, guard.service)
        freshness = _freshness_of(registry.backends.database)
        self.mirrors = open_mirrors(registry, settings, self.run, upstream_metrics)
        """None where there is no mirror."""
        self.cache = ResponseCache(registry, freshness, settings.limits.read_memory)
        buffers = settings.limits.upload_buffers
        self.receivers = Receivers(buffers // 4)
        """Decides how much of a body is in memory between client and store."""
        self.upload_memory = UploadMemory(buffers // 2, registry.backends.driver.capabilities.part_bytes)
        """For parts of uploads, where their store takes parts. A quarter of the buffers is for second parts."""
        self.large_manifests = ByteTurns(settings.manifests.max_bytes)
        """For manifests of more than a few bytes, while they are parsed and stored."""
        self.redirects = Redirects(settings.storage, registry.backends.driver)
        self._transfers = ThreadPoolExecutor(settings.limits.threads, "transfer", cores.use_all)
        self.hasher = ThreadPoolExecutor(1, "hasher", cores.use_all)
        """Hashes for an upload that has the machine for itself. Its calls wait for nothing."""
        self.receiving = 0
        """Uploads whose bytes a thread receives right now."""
        self.quiet = asyncio.Event()
        """Set while no request is being answered."""
        self.quiet.set()
        self._requests = 0

    def take_access(self, access: AccessSettings | None, *, is_stale: bool) -> None:
        """Decide by these rules from now on; ``is_stale`` if the file of settings has wrong ones.

        Requests that were decided go on. In the event loop's thread.
        """
        self.has_stale_rules = is_stale
        if access != self._access:
            self._access = access
            self._guard.take_access(self.settings.auth, access)
            self.registry.take_access(access)

    def mirrored(self, repository: str) -> MirroredName | None:
        """What a repository is to the mirror that it is of; None if it is of none. Raises NameInvalid."""
        return None if self.mirrors is None else self.mirrors.find(repository)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run a call of the synchronous core in a thread; begins at once, also before it is awaited."""
        return self._calls.run(partial(function, *args, **kwargs))

    def end(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As ``run``, for what frees what a request holds: it is never given up, however many wait."""
        return self._calls.end(partial(function, *args, **kwargs))

    def transfer(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As ``run``, for what moves or hashes the bytes of large blobs, which all go on at once."""
        return asyncio.get_running_loop().run_in_executor(self._transfers, partial(function, *args, **kwargs))

    def request_began(self) -> None:
        """One more request is being answered."""
        self._requests += 1
        self.quiet.clear()

    def request_ended(self) -> None:
        """See ``request_began``."""
        self._requests -= 1
        if not self._requests:
            self.quiet.set()

    def close(self) -> None:
        """Wait for what runs in threads, for CLOSE_SECONDS, then free what the edge holds. The core stays open."""
        if self.mirrors is not None:
            self.mirrors.close()
        self._calls.close(CLOSE_SECONDS)
        for pool in (self._transfers, self.hasher):
            ending = threading.Thread(target=partial(pool.shutdown, cancel_futures=True), daemon=True)
            ending.start()
            ending.join(CLOSE_SECONDS)
        self.cache.close()
        if self.authentication is not None:
            with contextlib.suppress(DatabaseError):
                self.authentication.close()


def _freshness_of(database: Database) -> Freshness:
    if database.is_sqlite:
        return SqliteFreshness(RepositoryVersions(database.path))
    return PostgresqlFreshness(partial(connect, database))


async def ended(call: asyncio.Future[T]) -> T:
    """The result of a call in a thread, which has ended in any case when this does, also where it is cancelled.

    For calls that use what their caller closes next.
    """
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        while not call.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([call])
        raise

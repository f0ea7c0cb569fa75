"""*Mirror edge*: the mirrors of a process for its event loop. A client that waits for an upstream holds no thread.

What an upstream is asked for small things runs in threads of that mirror alone, once for all clients that want the
same at once; no client's leaving ends it. Blobs are brought by fetches.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from registry.api.mirroring.entrances import Entrances
from registry.api.mirroring.waiting import until_head
from registry.config.file import ConfigError, ConfigProblem
from registry.images.fetching.content import FetchFailed
from registry.images.fetching.hub import FetchHub
from registry.images.fetching.policy import FetchPolicy
from registry.mirror.failures import fetch_failure
from registry.mirror.mirror import Mirrors
from registry.oci.errors import GatewayTimeout, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from registry.config.settings import Settings
    from registry.images.fetching.reader import FetchReader
    from registry.images.referrers import Wanted
    from registry.images.registry import Registry
    from registry.mirror.mirrored_manifest import MirroredManifest
    from registry.mirror.names import MirroredName
    from registry.mirror.referrers import ListedReferrers
    from registry.mirror.tag_lists import ListedTags
    from registry.observability.metrics.upstream_metrics import UpstreamMetrics
    from registry.oci.digest import Digest

    Run = Callable[..., asyncio.Future[Any]]

PATIENCE: Final = 55.0
"""Seconds that a client waits for the head of an answer of an upstream: less than proxies in front wait for ours."""
MOST_WAITING: Final = 1000
"""Different things that clients wait for of one mirror at a time, beyond which further ones are refused."""
CLOSE_SECONDS: Final = 5.0

T = TypeVar("T")


class Coming(NamedTuple):
    """A blob on its way."""

    reader: FetchReader
    size: int
    """Bytes of the whole."""


class MirrorEdge:
    """One per process that has mirrors. For the event loop's thread, but for ``find`` and ``close``."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        run: Run,
        metrics: UpstreamMetrics | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """``run`` has a call of the core made in a thread. Raises ValueError, OSError as ``Mirrors`` does."""
        self._registry = registry
        self._run = run
        self._patience = patience
        self._mirrors = Mirrors(settings.mirrors, registry, metrics=metrics)
        self._hub = FetchHub(
            registry.backends,
            registry.repositories,
            registry.blob_publication,
            registry.blobs,
            listener=metrics.fetches if metrics is not None else None,
            policies={
                each.name: FetchPolicy(fetches=each.fetches, fills=each.fill_on_disconnect, negative=each.negative_ttl)
                for each in settings.mirrors
            },
        )
        self._threads = {
            each.name: ThreadPoolExecutor(each.connections, thread_name_prefix="mirror") for each in settings.mirrors
        }
        self._running: dict[str, dict[Hashable, asyncio.Future[Any]]] = {each.name: {} for each in settings.mirrors}
        """What threads do, by the mirror."""
        self.entrances = Entrances(self._mirrors.names, urlsplit(settings.http.external_url or "").netloc)

    def find(self, repository: str) -> MirroredName | None:
        """What a repository is to the mirror that it is of; None if it is of none. Any thread. Raises NameInvalid."""
        return self._mirrors.names.find(repository)

    async def manifest(self, name: MirroredName, reference: Digest | str) -> MirroredManifest:
        """See ``MirrorManifests.find``."""
        manifests = self._mirrors[name.mirror.name].manifests
        here: MirroredManifest | None = await self._run(manifests.find_here, name, reference)
        if here is not None:
            return here
        key, asked = ("manifest", name.repository, str(reference)), partial(manifests.find, name, reference)
        soon = min(name.mirror.revalidate_timeout + 1.0, self._patience)
        try:
            return await self._once(name, key, asked, soon)
        except GatewayTimeout:  # it may not even have begun, where all threads wait for the upstream
            stale: MirroredManifest | None = await self._run(manifests.find_stale, name, reference)
        return await self._once(name, key, asked, self._patience - soon) if stale is None else stale

    async def tags(self, name: MirroredName, *, last: str, count: int) -> ListedTags:
        """See ``TagLists.page``."""
        lists = self._mirrors[name.mirror.name].tag_lists
        here: ListedTags | None = await self._run(lists.page_here, name, last=last, count=count)
        if here is not None:
            return here
        asked = partial(lists.page, name, last=last, count=count)
        return await self._once(name, ("tags", name.repository, last, count), asked)

    async def referrers(self, name: MirroredName, subject: Digest, wanted: Wanted) -> ListedReferrers:
        """See ``MirrorReferrers.page``."""
        referrers = self._mirrors[name.mirror.name].referrers
        here: ListedReferrers | None = await self._run(referrers.page_here, name, subject, wanted)
        if here is not None:
            return here
        asked = partial(referrers.page, name, subject, wanted)
        return await self._once(name, ("referrers", name.repository, subject, wanted), asked)

    async def blob_size(self, name: MirroredName, digest: Digest) -> int | None:
        """Bytes of a blob that is not here; None if the upstream does not say. See ``BlobProofs.require``."""
        proofs = self._mirrors[name.mirror.name].blob_proofs
        asked = partial(proofs.require, name, digest)
        return await self._once(name, ("blob", name.repository, digest), asked)

    async def blob(self, name: MirroredName, digest: Digest) -> Coming | None:
        """A blob that is not here, once its size is known; None if the repository has it by now.

        The upstream is asked by HEAD first only where the bytes came, or come, for another of its repositories.
        Close its reader. Raises what ``blob_size`` does.
        """
        mirror, prefix = self._mirrors[name.mirror.name], name.mirror.prefix
        is_elsewhere = await self._run(self._registry.blobs.is_below, digest, prefix)
        if is_elsewhere:
            await self.blob_size(name, digest)
            if await self._run(self._registry.blobs.mount_below, name.repository, digest, prefix):
                return None
        else:
            await self._run(mirror.blob_proofs.require_askable, name, digest)
        source = mirror.blob(name, digest)
        reader = self._hub.join(name.mirror.name, name.repository, digest, source, is_proven=is_elsewhere)
        try:
            async with asyncio.timeout(self._patience):
                return Coming(reader, await self._size_of(reader, name, digest))
        except BaseException as error:
            await asyncio.shield(self._run(reader.close))
            if isinstance(error, FetchFailed):
                is_named = await self._run(mirror.blob_proofs.is_named, name, digest)
                raise fetch_failure(name, digest, error, is_named=is_named) from error
            if isinstance(error, TimeoutError):
                message = f"mirror {name.mirror.name}: the upstream has not begun to send {digest}"
                raise GatewayTimeout(message) from None
            raise

    async def _size_of(self, reader: FetchReader, name: MirroredName, digest: Digest) -> int:
        """Bytes of a blob on its way, which the repository of this client may have. Raises FetchFailed."""
        while True:
            await until_head(reader)
            if reader.needs_proof:
                await self.blob_size(name, digest)
                await self._run(reader.prove)
                continue
            with contextlib.suppress(BlockingIOError):  # a leader has begun anew since
                size, _media_type = reader.head()
                return size

    def close(self) -> None:
        """Cut clients that wait, keep what has come, and give up what does not end soon."""
        ending = threading.Thread(target=self._end, daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)
        self._mirrors.close()

    def _end(self) -> None:
        self._hub.close()
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=True)

    async def _once(self, name: MirroredName, key: Hashable, call: Callable[[], T], seconds: float | None = None) -> T:
        """What a call returns that runs in a thread of the mirror, once for all that wait for the same.

        Raises what it raises, Unavailable, and GatewayTimeout after so many seconds, in which the call goes on.
        """
        mirror = name.mirror.name
        all_running = self._running[mirror]
        running: asyncio.Future[T] | None = all_running.get(key)
        if running is None:
            if len(all_running) >= MOST_WAITING:
                raise Unavailable(f"mirror {mirror}: too many clients wait", headers={"Retry-After": "1"})
            running = asyncio.get_running_loop().run_in_executor(self._threads[mirror], call)
            all_running[key] = running
            running.add_done_callback(partial(_forget, all_running, key))
        done, _ = await asyncio.wait([running], timeout=self._patience if seconds is None else seconds)
        if not done:
            raise GatewayTimeout(f"mirror {mirror}: the upstream has not answered in time")
        return running.result()


def _forget(all_running: dict[Hashable, asyncio.Future[Any]], key: Hashable, running: asyncio.Future[Any]) -> None:
    del all_running[key]
    if not running.cancelled():
        running.exception()  # it may be that no client waits for it any more


def open_mirrors(
    registry: Registry, settings: Settings, run: Run, metrics: UpstreamMetrics | None
) -> MirrorEdge | None:
    """The mirrors of a process; None if there are none. Raises ConfigError for a file that cannot be used."""
    if not settings.mirrors:
        return None
    try:
        return MirrorEdge(registry, settings, run, metrics)
    except (ValueError, OSError) as error:
        raise ConfigError([ConfigProblem("mirrors", str(error), "")]) from error

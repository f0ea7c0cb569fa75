"""*Blob proofs*: what an upstream says of a blob that is not here, for one of its repositories.

A name in a manifest of an upstream is no proof that its repository has the blob (I12). So before a repository of a
mirror gets bytes that came, or come, for another one, the upstream is asked by HEAD, as the client would ask it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cachetools import TTLCache

from registry.database import withheld
from registry.database.mirrors import remote_misses
from registry.mirror.failures import failure, is_absence
from registry.mirror.shared_calls import SharedCalls
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, DigestInvalid, RegistryError, Unavailable
from registry.upstream.errors import (
    AnswerInvalid,
    TokenUnavailable,
    UpstreamError,
    UpstreamStatus,
    UpstreamThrottled,
    UpstreamUnavailable,
)

if TYPE_CHECKING:
    from registry.config.mirror_sections import MirrorSettings
    from registry.images.registry import Registry
    from registry.mirror.names import MirroredName
    from registry.mirror.patient_upstream import Asked
    from registry.upstream.answer import Answer

KEPT: Final = 60.0
"""Seconds for which an answer counts."""
_MOST: Final = 10_000
_OK: Final = 200


class BlobProofs:
    """Those of one mirror. Any thread; each process asks by itself, and all know what is absent."""

    def __init__(self, settings: MirrorSettings, registry: Registry, upstream: Asked) -> None:
        self._settings = settings
        self._registry = registry
        self._database = registry.backends.database
        self._upstream = upstream
        self._lock = threading.Lock()
        self._sizes: TTLCache[tuple[str, Digest], int | None] = TTLCache(_MOST, KEPT, self._database.clocks.boot)
        self._shared: SharedCalls[int | None] = SharedCalls()

    def require(self, name: MirroredName, digest: Digest) -> int | None:
        """The size of a blob that this repository of the upstream has; None if it does not say the size.

        Threads of this process share a request. Raises BlobUnknown where the upstream does not have it, and where it
        gives no answer TooManyRequests, BadGateway, GatewayTimeout; Unavailable if a manifest here names the blob.
        """
        key = name.repository, digest
        self._require_not_missed(name, digest)
        with self._lock:
            if key in self._sizes:
                return self._sizes[key]
        self._require_online(name, digest)
        return self._shared.run(key, lambda: self._ask(name, digest))

    def require_askable(self, name: MirroredName, digest: Digest) -> None:
        """Raises BlobUnknown where it is known that the upstream does not have it, Unavailable where none is asked."""
        self._require_not_missed(name, digest)
        self._require_online(name, digest)

    def note_miss(self, name: MirroredName, digest: Digest) -> None:
        """The upstream does not have the blob in this repository, or other bytes: HEAD says so, too, for a while."""
        with self._lock:
            self._sizes.pop((name.repository, digest), None)
        with self._database.statement() as connection:
            seconds = self._settings.negative_ttl
            remote_misses.put(connection, name.mirror.name, _key(name, digest), seconds=seconds)

    def _ask(self, name: MirroredName, digest: Digest) -> int | None:
        path, scope = f"/v2/{name.upstream}/blobs/{digest}", f"repository:{name.upstream}:pull"
        try:
            with self._upstream.request("HEAD", path, scope=scope) as answer:
                size = _size(answer, digest)
        except UpstreamError as error:
            raise self._failure(name, digest, error) from error
        with self._lock:
            self._sizes[name.repository, digest] = size
        return size

    def _require_online(self, name: MirroredName, digest: Digest) -> None:
        if self._settings.offline:
            raise Unavailable(f"mirror {name.mirror.name} is offline, and has no {digest} of {name.upstream} here")

    def _require_not_missed(self, name: MirroredName, digest: Digest) -> None:
        with self._database.autocommit() as connection:
            most = self._settings.negative_ttl
            left = remote_misses.left(connection, name.mirror.name, _key(name, digest), most=most).get()
        if left > 0:
            raise _absence(name, digest)

    def _failure(self, name: MirroredName, digest: Digest, error: UpstreamError) -> RegistryError:
        if is_absence(error):
            self.note_miss(name, digest)
            return _absence(name, digest)
        is_named = self.is_named(name, digest)
        is_away = isinstance(error, UpstreamUnavailable) and not isinstance(error, UpstreamThrottled | TokenUnavailable)
        if is_named and is_away:
            return Unavailable(f"mirror {name.mirror.name}: {error}", headers={"Retry-After": "5"})
        found = failure(name, digest, error, is_known=is_named)
        return BlobUnknown(found.message) if found.status == BlobUnknown.status else found

    def is_named(self, name: MirroredName, digest: Digest) -> bool:
        """Whether a manifest that is here names it: the upstream had it once."""
        repository = self._registry.repositories.touch(name.repository)
        if repository is None:
            return False
        with self._database.autocommit() as connection:
            return withheld.naming(connection, repository.id, digest).get() is not None


def _size(answer: Answer, digest: Digest) -> int | None:
    """Raises UpstreamStatus, AnswerInvalid."""
    host = answer.origin.host
    if answer.status != _OK:
        raise UpstreamStatus(f"{host} does not give the blob: status {answer.status}", answer.status)
    try:
        said = Digest.parse(answer.headers.get("Docker-Content-Digest", "").strip())
    except DigestInvalid:
        return answer.length
    if said.algorithm == digest.algorithm and said != digest:
        raise AnswerInvalid(f"{host}: the blob has the digest {said}, and not {digest} as it should")
    return answer.length


def _key(name: MirroredName, digest: Digest) -> str:
    """What names a blob of a mirror in rows; a manifest with its digest is another thing."""
    return f"{name.repository}/blobs/{digest}"


def _absence(name: MirroredName, digest: Digest) -> BlobUnknown:
    return BlobUnknown(f"mirror {name.mirror.name}: the upstream has no blob {digest} in {name.upstream}")

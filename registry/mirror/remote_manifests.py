"""*Remote manifests*: a manifest of an upstream, asked for by HEAD or GET, with the digest that its bytes have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from registry.oci import media_types
from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid, ManifestInvalid
from registry.oci.manifest import parse_manifest
from registry.upstream.errors import AnswerInvalid, UpstreamStatus

if TYPE_CHECKING:
    from registry.mirror.patient_upstream import Asked
    from registry.upstream.answer import Answer

_ACCEPT: Final = ", ".join(sorted(media_types.MANIFESTS))
"""All of it at each request: a list of types that lacks indexes gets the manifest of one platform, as another one."""
_DIGEST: Final = "Docker-Content-Digest"
_BODY_SECONDS: Final = 30.0
_OK, _NOT_MODIFIED = 200, 304
_HEADLESS: Final = frozenset({400, 405})
"""Answers of a server that gives a manifest, and does not know HEAD."""


class RemoteHead(NamedTuple):
    """What an upstream says of a tag without its bytes."""

    digest: Digest | None
    """None if it does not say."""
    etag: str | None


class RemoteManifest(NamedTuple):
    """A manifest as it was sent."""

    body: bytes
    media_type: str
    digest: Digest
    """The digest that the bytes have."""
    etag: str | None


class Remote(Protocol):
    """Manifests of one upstream; ``RemoteManifests`` is one."""

    def head(self, name: str, reference: Digest | str, *, seconds: float | None = None) -> RemoteHead:
        """Raises UpstreamError, of which an UpstreamStatus may be an absence."""

    def get(
        self, name: str, reference: Digest | str, *, etag: str | None = None, seconds: float | None = None
    ) -> RemoteManifest | None:
        """None if it has that ``etag`` still. Raises UpstreamError, of which an UpstreamStatus may be an absence."""


class RemoteManifests:
    """Any thread."""

    def __init__(self, upstream: Asked, *, max_bytes: int) -> None:
        self._upstream = upstream
        self._max_bytes = max_bytes

    def head(self, name: str, reference: Digest | str, *, seconds: float | None = None) -> RemoteHead:
        """What the upstream says of a manifest; ``seconds`` are for all of it. Hub counts no HEAD as a pull.

        Raises UpstreamError.
        """
        with self._ask("HEAD", name, reference, {}, seconds) as answer:
            if answer.status in _HEADLESS:
                return RemoteHead(None, None)
            _require(answer, _OK)
            return RemoteHead(_said(answer), answer.headers.get("ETag"))

    def get(
        self, name: str, reference: Digest | str, *, etag: str | None = None, seconds: float | None = None
    ) -> RemoteManifest | None:
        """The manifest; None if ``etag`` is that of it still. ``seconds`` are for its head, and again for its body.

        Raises UpstreamError: AnswerInvalid also where the bytes do not have the digest that was asked for or is said
        to be theirs, and where they are no manifest that can be kept.
        """
        headers = {} if etag is None else {"If-None-Match": etag}
        with self._ask("GET", name, reference, headers, seconds) as answer:
            if answer.status == _NOT_MODIFIED and etag is not None:
                return None
            _require(answer, _OK)
            said, host = _said(answer), answer.origin.host
            body = answer.document(self._max_bytes, _BODY_SECONDS if seconds is None else seconds)
        digest = _hashed(body, host, said)
        if isinstance(reference, Digest) and _hashed(body, host, reference) != digest:
            digest = reference
        try:
            manifest = parse_manifest(body, answer.headers.get("Content-Type"))
        except ManifestInvalid as error:
            raise AnswerInvalid(f"{host}: {error}") from error
        return RemoteManifest(body, manifest.media_type, digest, answer.headers.get("ETag"))

    def _ask(
        self, method: str, name: str, reference: Digest | str, headers: dict[str, str], seconds: float | None
    ) -> Answer:
        path, scope = f"/v2/{name}/manifests/{reference}", f"repository:{name}:pull"
        return self._upstream.request(
            method, path, scope=scope, headers={"Accept": _ACCEPT, **headers}, seconds=seconds
        )


def _require(answer: Answer, status: int) -> None:
    """Raises UpstreamStatus for any other one."""
    if answer.status != status:
        host = answer.origin.host
        raise UpstreamStatus(f"{host} does not give the manifest: status {answer.status}", answer.status)


def _said(answer: Answer) -> Digest | None:
    """The digest that the upstream names; None if there is none that can be read: it is no more than a hint."""
    try:
        return Digest.parse(answer.headers.get(_DIGEST, "").strip())
    except DigestInvalid:
        return None


def _hashed(body: bytes, host: str, wanted: Digest | None) -> Digest:
    """The digest of the bytes, by the algorithm of ``wanted``. Raises AnswerInvalid if that is another one."""
    digest = Digest.of(body, "sha256" if wanted is None else wanted.algorithm)
    if wanted is not None and digest != wanted:
        raise AnswerInvalid(f"{host}: the manifest has the digest {digest}, and not {wanted} as it should")
    return digest

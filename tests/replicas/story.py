"""A push and a pull in every way that asks something else of the store, told to a registry in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from registry.oci.digest import Digest
from tests.api.service import Reply, Service
from tests.support.payloads import Blob, image

REPO = "team/app"
MIB = 1 << 20
PART = 5 * MIB
GIVEN_UP = 3
"""Tries after which a client despairs."""


@cache
def _large() -> tuple[Blob, Blob, Blob]:
    """Made once for all stories: each has a store of its own."""
    return Blob(os.urandom(2 * PART + 1234)), Blob(os.urandom(2 * PART + 4321)), Blob(os.urandom(PART + 900_000))


class Story:
    """What was acknowledged must be there at the end; what fails must fail with a clean 5xx, and work when repeated."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.config = Blob(b'{"architecture": "amd64"}')
        self.small = Blob(b"small layer" * 10)
        self.staged, self.direct, self.chunked = _large()
        self.image = image(self.config, [self.small, self.staged, self.direct, self.chunked])
        self.failures: list[int] = []
        self._unclear = False

    def tell(self) -> None:
        """Push everything, fold, pull everything, delete the tag."""
        for step in (
            lambda: self._in_steps(self.config),
            lambda: self._in_steps(self.small),
            lambda: self._in_steps(self.staged),
            lambda: self._at_once(self.direct),
            lambda: self._in_chunks(self.chunked, 600_000),
        ):
            self._until_done(step, 201)
        self._until_done(self._put_manifest, 201)
        self._service.registry.fold_waiting()
        self.check()
        self._until_done(self._delete_tag, 202)
        self._service.registry.fold_waiting()

    def check(self) -> None:
        """Everything is there, by every name."""
        for reference in ("v1", self.image.digest):
            reply = self._until_done(lambda: self._get("manifests", reference), 200)  # noqa: B023 - called at once
            assert reply.body == self.image.data
        for blob in (self.config, self.small, self.staged, self.direct, self.chunked):
            assert self._until_done(lambda: self._get("blobs", blob.digest), 200).body == blob.data  # noqa: B023

    # ----

    def _until_done(self, step: Callable[[], Reply], wanted: int) -> Reply:
        for _ in range(GIVEN_UP):
            reply = step()
            if reply.status == wanted:
                return reply
            self.failures.append(reply.status)
            assert reply.status in {500, 503}, (reply.status, reply.body)
            assert reply.status == 503, reply
            assert reply.code == "UNAVAILABLE"
        raise AssertionError(f"it never worked: {self.failures}")

    def _get(self, kind: str, reference: str) -> Reply:
        try:
            return self._service.call("GET", f"/v2/{REPO}/{kind}/{reference}")
        except Exception as error:  # noqa: BLE001 - a body that is cut short, as its client sees it
            return Reply(
                503, {}, str({"errors": [{"code": "UNAVAILABLE", "why": repr(error)}]}).replace("'", '"').encode()
            )

    def _in_steps(self, blob: Blob) -> Reply:
        begun = self._service.call("POST", f"/v2/{REPO}/blobs/uploads/")
        if begun.status != 202:
            return begun
        sent = self._service.call("PATCH", begun.location, blob.data)
        if sent.status != 202:
            return sent
        return self._closed(begun.location, blob)

    def _in_chunks(self, blob: Blob, size: int) -> Reply:
        """Goes on where the session says, after each failure."""
        begun = self._service.call("POST", f"/v2/{REPO}/blobs/uploads/")
        if begun.status != 202:
            return begun
        offset, failures = 0, 0
        while offset < len(blob.data):
            end = min(offset + size, len(blob.data))
            headers = {"Content-Range": f"{offset}-{end - 1}"}
            sent = self._service.call("PATCH", begun.location, blob.data[offset:end], headers)
            if sent.status != 202:
                failures += 1
                assert sent.status in {416, 503}, sent
                assert failures < GIVEN_UP, "it never worked"
                self.failures.append(sent.status)
            status = self._service.call("GET", begun.location)
            assert status.status == 204, status
            last = int(status.headers["range"].partition("-")[2])
            offset = last + 1 if last else 0
        return self._closed(begun.location, blob)

    def _closed(self, location: str, blob: Blob) -> Reply:
        """The closing request, which may be sent again without the bytes."""
        for _ in range(GIVEN_UP):
            reply = self._service.call("PUT", f"{location}?digest={blob.digest}")
            if reply.status != 503:
                break
            self.failures.append(reply.status)
        return reply

    def _at_once(self, blob: Blob) -> Reply:
        return self._service.call("POST", f"/v2/{REPO}/blobs/uploads/?digest={blob.digest}", [blob.data])

    def _delete_tag(self) -> Reply:
        """Done as well where the tag is gone after an unclear answer: the store may have carried it out."""
        reply = self._service.call("DELETE", f"/v2/{REPO}/manifests/old")
        if reply.status == 404 and self._unclear:
            return replace(reply, status=202)
        self._unclear = reply.status == 503
        return reply

    def _put_manifest(self) -> Reply:
        headers = {"Content-Type": self.image.media_type}
        for tag in ("old", "v1"):
            reply = self._service.call("PUT", f"/v2/{REPO}/manifests/{tag}", self.image.data, headers)
            if reply.status != 201:
                break
        return reply


def tags(service: Service) -> Any:
    """As anybody sees them."""
    return service.call("GET", f"/v2/{REPO}/tags/list").json["tags"]


def index_tags(service: Service) -> set[str]:
    """As they are on storage."""
    from registry.oci.index import Index

    registry = service.registry
    data, _ = registry.backends.driver.read(registry.backends.layout.index(REPO), max_bytes=1 << 20)
    return set(Index.parse(data).tags())


def digest(blob: Blob) -> Digest:
    """Of a blob, parsed."""
    return Digest.parse(blob.digest)

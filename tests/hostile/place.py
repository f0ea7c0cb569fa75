"""The registry under attack: its address, its storage tree, what lies beside it, and what must not have changed."""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.hostile.wire import Address, Reply, Request, request, send
from tests.support.payloads import Blob, image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPO = "hostile/a"
OTHER = "hostile/b"
SCRATCH = "hostile/scratch"
OTHER_SCRATCH = "hostile/scratch-other"
NEW_SCRATCH = "hostile/scratch-new"
"""Where tests put what they take away again: afterwards only index and journal may differ, and that the last exists."""
CONFIG = Blob(b'{"hostile": true}')
LAYER = Blob(b"a layer that only the first repository has\n" * 40)
OTHER_LAYER = Blob(b"a layer that only the second repository has\n" * 40)
IMAGE = image(CONFIG, [LAYER])
OTHER_IMAGE = image(CONFIG, [OTHER_LAYER])
ABSENT = "sha256:" + "0" * 64
CANARY = b"canary-3f9b17d2-must-never-leave"
MAX_MANIFEST = 8 << 20
"""Bytes: ``manifests.max_bytes`` as it is by default."""

CODES = frozenset(
    {
        "BLOB_UNKNOWN",
        "BLOB_UPLOAD_INVALID",
        "BLOB_UPLOAD_UNKNOWN",
        "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "NAME_INVALID",
        "NAME_UNKNOWN",
        "SIZE_INVALID",
        "UNSUPPORTED",
        "RANGE_INVALID",
        "TAG_INVALID",
        "PAGINATION_NUMBER_INVALID",
        "NOT_FOUND",
    }
)
"""Every code that a request may be refused with here (no authentication, no quotas, a healthy store)."""


@dataclass(frozen=True)
class Place:
    """A running registry whose root directory has files beside it that it must never touch or show."""

    address: Address
    root: Path
    outer: Path
    """Contains ``root`` and the files beside it."""
    ignored: frozenset[str] = frozenset()
    """Files that may change, such as the log."""
    made: set[str] = field(default_factory=set)
    """Repositories that requests which happened to be right have made; they stay, without any blob."""

    def send(self, message: Request) -> Reply:
        """The answer to one request, checked for what no answer may ever have: see ``inspect``."""
        reply = send(self.address, message)
        self.inspect(message, reply)
        return reply

    def inspect(self, message: Request, reply: Reply) -> None:
        """Nothing of the machine leaks, no header was smuggled in, nothing failed inside."""
        assert reply.status < 500, (message, reply)
        assert reply.complete, (message, reply)
        for secret in (CANARY, b"SQLite format 3", b"Traceback", str(self.root).encode()):
            assert secret not in reply.body, (message, reply)
            assert secret not in reply.raw, (message, reply)
        assert not any(name.startswith("x-injected") for name, _ in reply.headers), (message, reply)

    def push(self, repository: str, blob: Blob) -> None:
        """Push a blob in two requests."""
        session = self.open_session(repository)
        headers = {"Content-Type": "application/octet-stream"}
        reply = self.send(request("PUT", closing(session, blob.digest), headers=headers, body=blob.data))
        assert reply.status == 201, reply

    def open_session(self, repository: str = REPO) -> str:
        """Open an upload and return the path of its session."""
        reply = self.send(request("POST", f"/v2/{repository}/blobs/uploads/", body=b""))
        assert reply.status == 202, reply
        return self.path_of(reply)

    def path_of(self, reply: Reply) -> str:
        """The path and query of a Location, relative or absolute, without the prefix of a proxy."""
        parts = urlsplit(reply.location)
        return parts.path[parts.path.index("/v2/") :] + (f"?{parts.query}" if parts.query else "")

    def offset(self, session: str) -> int:
        """How many bytes a session says that it has; ``Range: 0-0`` stands for none and for one, and counts as none."""
        reply = self.send(request("GET", session))
        assert reply.status == 204, reply
        found = re.fullmatch(r"0-(\d+)", reply.header("range") or "")
        assert found, reply
        end = int(found[1])
        return end + 1 if end else 0

    def cancel(self, session: str) -> None:
        """End a session, if it is there; a writer whose client has just gone may hold it for a moment."""
        assert settles(lambda: self.send(request("DELETE", session)).status in {204, 404})

    def seed(self) -> None:
        """Put one image into each repository and wait until their indexes say so."""
        for repository, layer, manifest in (
            (REPO, LAYER, IMAGE),
            (OTHER, OTHER_LAYER, OTHER_IMAGE),
            (SCRATCH, LAYER, IMAGE),
            (OTHER_SCRATCH, OTHER_LAYER, OTHER_IMAGE),
        ):
            for blob in (CONFIG, layer):
                self.push(repository, blob)
            reply = self.send(
                request(
                    "PUT",
                    f"/v2/{repository}/manifests/one",
                    headers={"Content-Type": manifest.media_type},
                    body=manifest.data,
                )
            )
            assert reply.status == 201, reply
            wait_until(partial(_contains, self.root / repository / "index.json", b'"one"'))

    def snapshot(self) -> dict[str, str]:
        """Every file around and below the root with a hash of its bytes, without the database and its companions."""
        paths = (path for path in _files(str(self.outer)) if not self._may_change(path))
        return {path: hashlib.sha256(_read(Path(path))).hexdigest() for path in paths}

    def settled(self) -> dict[str, str]:
        """The same without a temporary file: what was asked of the server before has come to its end."""
        wait_until(lambda: not list((self.root / ".uploads").glob("tmp-*")))
        return self.snapshot()

    def _may_change(self, path: str) -> bool:
        """Whether it does while the registry is used well; by text, since it is asked a hundred thousand times."""
        if path in self.ignored:
            return True
        if not path.startswith(f"{self.root}/"):
            return False
        inside = path.removeprefix(f"{self.root}/")
        for scratch in (SCRATCH, OTHER_SCRATCH, NEW_SCRATCH):
            if inside.startswith(f"{scratch}/") and not f"{inside}/".startswith(f"{scratch}/blobs/"):
                return True
        for repository in self.made:
            if inside in {f"{repository}/index.json", f"{repository}/oci-layout"}:
                return True
            if inside.startswith(f"{repository}/.journal/"):
                return True
        # The database with its log, and lock files; uploads are what is looked at.
        return inside.startswith(".") and inside.partition("/")[0] != ".uploads"

    def assert_unchanged(self, before: dict[str, str]) -> None:
        """The tree is again what it was, within a moment: nothing written, nothing lost, nothing left over."""
        if not settles(lambda: self.snapshot() == before):
            after = self.snapshot()
            changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
            raise AssertionError(f"changed on disk: {sorted(changed)}")


def closing(session: str, digest: str) -> str:
    """The target that ends a session, whose Location may have a query of its own."""
    return f"{session}{'&' if '?' in session else '?'}digest={digest}"


def settles(condition: Callable[[], bool], *, seconds: float = 5.0) -> bool:
    """Whether a condition becomes true within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def wait_until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for a condition; raises AssertionError when it does not come true."""
    assert settles(condition, seconds=seconds), "waited in vain"


def _contains(path: Path, text: bytes) -> bool:
    return text in _read(path)


def _files(directory: str) -> Iterator[str]:
    """Every file below a directory that may lose some meanwhile."""
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            elif entry.is_file():
                yield entry.path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""

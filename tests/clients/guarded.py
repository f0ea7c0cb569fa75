"""Guarded registry: its users and rules, and what its request log says of what clients did."""

from __future__ import annotations

import http.client
import json
from base64 import b64encode
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from registry.auth.passwords.password_hash import PasswordHash
from tests.clients.wire import Wire, until
from tests.support.replicas import Replicas
from tests.support.secrecy import require_unwritten
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.servers import Registry

PASSWORDS = {"alice": "wonderland", "bob": "builder", "carol": "singer"}
RULES = [
    {"who": ["anonymous"], "repositories": ["public/**"], "actions": ["pull"]},
    {"who": ["alice"], "repositories": ["team/**", "public/**"], "actions": ["pull", "push", "delete"]},
    {"who": ["bob"], "repositories": ["team/**"], "actions": ["pull"]},
    {"who": ["carol"], "repositories": ["secret/**"], "actions": ["pull", "push"]},
]
"""What is below ``public`` may be pulled without credentials; alice may do everything but in ``secret``, where carol
alone may do anything; bob may pull what is below ``team``."""
QUOTAS = [{"repositories": [f"team/*-{place}"], "bytes": 1} for place in ("tiny", "full")]
"""For what no client may push; each of two, so that one can be full."""
_MARK = "/v2/mark-of-the-test"
_numbers = count()


class Request(NamedTuple):
    """One line of the request log."""

    method: str
    path: str
    status: int
    received: int
    """Bytes of its body."""
    digest: str | None
    """The digest that it is about, if one is known."""


class Requests:
    """The requests that every process of a registry with one worker has answered, in the order of each log."""

    def __init__(self, registry: Registry) -> None:
        assert isinstance(registry, RegistryProcess | Replicas)
        self._processes = registry.replicas if isinstance(registry, Replicas) else [registry]
        self._begin = {process.port: 0 for process in self._processes}
        self.forget()

    def forget(self) -> None:
        """Leave out what was answered until now."""
        self._begin = {process.port: len(self._log(process)) for process in self._processes}

    def all(self) -> list[Request]:
        """What was answered since ``forget``."""
        found = []
        for process in self._processes:
            for line in self._log(process)[self._begin[process.port] :].splitlines():
                entry = json.loads(line)
                if entry.get("event") == "request" and not entry["path"].startswith((_MARK, "/livez")):
                    found.append(
                        Request(entry["method"], entry["path"], entry["status"], entry["bytes_in"], entry.get("digest"))
                    )
        return found

    def mounted(self, repository: str) -> set[str | None]:
        """The blobs that became members of a repository without a byte of theirs."""
        return {each.digest for each in self._joined(repository) if each.method == "POST" and not each.received}

    def uploaded(self, repository: str) -> set[str | None]:
        """The blobs that were sent to a repository."""
        return {each.digest for each in self._joined(repository) if each.method == "PUT" or each.received}

    def of(self, repository: str) -> list[Request]:
        """The requests that name a repository."""
        return [each for each in self.all() if each.path.startswith(f"/v2/{repository}/")]

    def writes(self, repository: str) -> list[Request]:
        """Those that change something in it."""
        return [each for each in self.of(repository) if each.method not in {"GET", "HEAD"}]

    def _joined(self, repository: str) -> list[Request]:
        at = f"/v2/{repository}/blobs/uploads/"
        return [each for each in self.all() if each.status == http.client.CREATED and each.path.startswith(at)]

    def _log(self, process: RegistryProcess) -> bytes:
        """What is written once everything before this moment is: lines are written in batches."""
        mark = f"{_MARK}/{next(_numbers)}"
        Wire(f"{HOST}:{process.port}").request("GET", mark)
        until(lambda: f'"{mark}"'.encode() in process.log_path.read_bytes(), "a line of the request log")
        return process.log_path.read_bytes()


def write_users(path: Path, passwords: Mapping[str, str] = PASSWORDS) -> Path:
    """Write a file of users."""
    lines = (f"{user}:{PasswordHash.make(password, 'bcrypt').text}\n" for user, password in passwords.items())
    path.write_text("".join(lines))
    return path


@contextmanager
def running(backend: Backend, directory: Path, **sections: Mapping[str, object]) -> Iterator[Registry]:
    """A registry with these users and rules, and perhaps other sections; at its end no password is written down."""
    guard: dict[str, Mapping[str, object]] = {
        "auth": {"htpasswd": {"file": str(write_users(directory / "htpasswd"))}},
        "access": {"rules": RULES, "quotas": QUOTAS},
        "log": {"level": "debug"},
    }
    server = backend.registry(directory / "registry", {**guard, **sections})
    server.start()
    try:
        yield server
        assert isinstance(server, RegistryProcess | Replicas)
        processes = server.replicas if isinstance(server, Replicas) else [server]
        require_unwritten(processes, PASSWORDS.values(), PASSWORDS)
    finally:
        server.stop()


def basic(user: str) -> dict[str, str]:
    """The header of a login."""
    return {"Authorization": "Basic " + b64encode(f"{user}:{PASSWORDS[user]}".encode()).decode()}


class Seen(NamedTuple):
    """What a caller finds."""

    status: int
    digest: str | None


def seen(address: str, repository: str, tag: str, user: str) -> Seen:
    """The manifest of a tag, by Basic."""
    answer = Wire(address).request("HEAD", f"/v2/{repository}/manifests/{tag}", headers=basic(user))
    return Seen(answer.status, answer.headers.get("docker-content-digest"))

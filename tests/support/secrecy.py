"""*Secrecy*: that servers have written down no secret which a test has used (check 25 of access).

Any test of access may call it: its passwords, keys and tokens are looked for in the log, the audit log, the metrics,
the settings as shown, the keys as listed, and every file below a root directory on disk.
"""

from __future__ import annotations

import http.client
import json
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.servers import RegistryProcess

LONG = 30
"""Characters from which on the middle of a secret is looked for: a part of it is as bad."""


def require_unwritten(
    processes: Iterable[RegistryProcess], secrets: Iterable[str], users: Iterable[str] = (), answers: bytes = b""
) -> None:
    """AssertionError for a secret that is written, also as the password of one of ``users`` in Basic credentials.

    ``answers`` are what clients were told, in which no secret may be that was not asked for.
    """
    text = answers + b"".join(part for process in processes for part in written(process))
    names = ["", *users]
    for secret in secrets:
        for part in _parts(secret, names):
            assert part not in text, part


def written(process: RegistryProcess) -> Iterator[bytes]:
    """All that a server with a log has written down or shows."""
    log = process.log_path.read_bytes()
    assert log, "a server that logs nothing proves nothing"
    yield log
    if "audit" in process.config.get("log", {}):
        yield audit_file_of(process).read_bytes()
    if process.running:
        yield _metrics(process.port)
    yield json.dumps(process.run("config", "show")).encode()
    yield json.dumps(process.run("key", "list")).encode()
    storage: Any = process.config["storage"]
    if storage.get("driver", "local") == "local":
        yield from (path.read_bytes() for path in Path(storage["root_directory"]).rglob("*") if path.is_file())


def audit_file_of(process: RegistryProcess) -> Path:
    """The file that the settings of a server name for its audit log."""
    audit: Any = process.config["log"]["audit"]
    return Path(audit["file"])


def _metrics(port: int) -> bytes:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
    finally:
        connection.close()


def _parts(secret: str, users: Iterable[str]) -> Iterator[bytes]:
    middle = secret[10:-10] if len(secret) >= LONG else secret
    yield middle.encode()
    for user in users:
        yield b64encode(f"{user}:{secret}".encode()).rstrip(b"=")[:-1]

"""Traffic beside a collection: pulls of manifests and pushes of small images, at a steady pace, with their times."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import threading
import time
from typing import TYPE_CHECKING

from benchmarks.collection.store import IMAGES, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

PULLS, PUSHES = 50.0, 5.0
"""How many a second."""
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Traffic:
    """One thread that pulls and one that pushes, until ``stop``."""

    def __init__(self, port: int, repositories: int) -> None:
        self._port = port
        self._repositories = repositories
        self._ending = threading.Event()
        self._random = random.Random(1)
        self.pulls: list[float] = []
        """Seconds of each."""
        self.pushes: list[float] = []
        """Seconds of each image: two blobs and a manifest."""
        self.failures: list[str] = []
        self._threads = [
            threading.Thread(target=self._loop, args=(self._pull, self.pulls, PULLS)),
            threading.Thread(target=self._loop, args=(self._push, self.pushes, PUSHES)),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _loop(self, act: Callable[[http.client.HTTPConnection], None], times: list[float], pace: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        due = time.monotonic()
        while not self._ending.is_set():
            due = max(due + 1 / pace, time.monotonic())
            self._ending.wait(due - time.monotonic())
            began = time.monotonic()
            try:
                act(connection)
            except (OSError, http.client.HTTPException, RuntimeError) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            times.append(time.monotonic() - began)
        connection.close()

    def _pull(self, connection: http.client.HTTPConnection) -> None:
        name = name_of(self._random.randrange(self._repositories))
        path = f"/v2/{name}/manifests/v{self._random.randrange(IMAGES)}"
        _ask(connection, "GET", path, wanted=200)

    def _push(self, connection: http.client.HTTPConnection) -> None:
        name, token = f"bench/pushed/{random.randrange(20)}", str(time.monotonic_ns())
        config, layer = f'{{"a": "{token}"}}'.encode(), token.encode() * 50
        for data in (config, layer):
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            place = _ask(connection, "POST", f"/v2/{name}/blobs/uploads/", wanted=202)
            _ask(connection, "PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", data, wanted=201)
        document = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [_descriptor(layer, "application/vnd.oci.image.layer.v1.tar")],
        }
        _ask(connection, "PUT", f"/v2/{name}/manifests/{token}", json.dumps(document).encode(), wanted=201)


def _descriptor(data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, data: bytes | None = None, *, wanted: int
) -> str:
    """The path of the Location of the answer."""
    headers = {"Content-Type": _MANIFEST if "/manifests/" in path else "application/octet-stream"}
    connection.request(method, path, data, headers if data is not None else {})
    answer = connection.getresponse()
    answer.read()
    if answer.status != wanted:
        raise RuntimeError(f"{method} {path}: {answer.status}")
    location = answer.headers.get("Location", "")
    return location.partition("//")[2].partition("/")[2].join(["/", ""]) if "//" in location else location


def percentile(times: list[float], share: float) -> float:
    """In milliseconds; 0 where there are none."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000 if times else 0.0

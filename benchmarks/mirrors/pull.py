"""Pulls of whole images, as clients do them: the manifest by its tag, then its blobs side by side, all hashed."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.content import MANIFEST
from benchmarks.wire import BUFFER_BYTES, Connection


@dataclass
class Pull:
    """One pull."""

    port: int
    repository: str
    tag: str
    began: float = 0.0
    first: float = 0.0
    """Seconds until the first byte of a layer."""
    seconds: float = 0.0
    """Seconds until the last byte."""
    failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> Pull:
        """Do it. What goes wrong is in ``failures``."""
        self.began = time.monotonic()
        try:
            with Connection(self.port) as connection:
                target = f"/v2/{self.repository}/manifests/{self.tag}"
                body = connection.request("GET", target, accept=MANIFEST).expect(200).body
            document = json.loads(body)
            self._all([(document["config"], False), *((layer, True) for layer in document["layers"])])
        except Exception as error:  # noqa: BLE001 - a pull that fails is a row of the table
            self.failures.append(f"{type(error).__name__}: {error}")
        self.seconds = time.monotonic() - self.began
        return self

    def _all(self, blobs: list[tuple[dict[str, Any], bool]]) -> None:
        threads = [threading.Thread(target=self._blob, args=blob) for blob in blobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _blob(self, descriptor: dict[str, Any], is_layer: bool) -> None:  # noqa: FBT001 - of a pair
        digest = hashlib.sha256()

        def keep(piece: memoryview) -> None:
            if is_layer and piece and not self.first:
                with self._lock:
                    self.first = self.first or time.monotonic() - self.began
            digest.update(piece)

        try:
            with Connection(self.port) as connection:
                target = f"/v2/{self.repository}/blobs/{descriptor['digest']}"
                connection.drain(target, bytearray(BUFFER_BYTES), keep)
            if f"sha256:{digest.hexdigest()}" != descriptor["digest"]:
                self.failures.append("other bytes than the digest says")
        except Exception as error:  # noqa: BLE001 - as above
            self.failures.append(f"{type(error).__name__}: {error}")

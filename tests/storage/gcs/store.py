"""A fake-gcs-server for the tests of one process, started where it is first needed."""

from __future__ import annotations

import atexit
import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from functools import cache
from pathlib import Path

from registry.config.sections import GcsSettings
from registry.storage.gcs.driver import GcsDriver
from tests.support.servers import free_port
from tests.support.tools import tool

PROGRAM = "fake-gcs-server"
PART = 1 << 20
ROOT = "some/root"


@cache
def endpoint() -> str:
    """The address of the server; it ends with this process."""
    port = free_port()
    directory = tempfile.TemporaryDirectory(prefix="gcs-")
    command = [str(tool(PROGRAM)), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-public-host", f"127.0.0.1:{port}", "-filesystem-root", directory.name, "-log-level", "error"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop() -> None:
        server.kill()
        server.wait()
        directory.cleanup()

    atexit.register(stop)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{address}/storage/v1/b", timeout=5).close()  # noqa: S310 - our own server
        except urllib.error.URLError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return address


def new_bucket() -> GcsSettings:
    """An empty bucket."""
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    made = urllib.request.Request(  # noqa: S310 - our own server
        f"{endpoint()}/storage/v1/b",
        json.dumps({"name": bucket}).encode(),
        {"content-type": "application/json"},
    )
    urllib.request.urlopen(made, timeout=30).close()  # noqa: S310 - likewise
    return GcsSettings(bucket=bucket, endpoint_url=endpoint(), anonymous=True, part_size=PART)


def open_store(root: Path) -> GcsDriver:
    """The store of a directory, which notes its bucket, so that another process finds it."""
    note = root / "gcs.json"
    if not note.exists():
        root.mkdir(parents=True, exist_ok=True)
        note.write_text(new_bucket().model_dump_json())
    return GcsDriver(GcsSettings.model_validate_json(note.read_text()), ROOT)

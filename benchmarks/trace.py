"""Trace of requests: the files of the product that a request enters, and how often it goes from one to another.

``python benchmarks/trace.py`` starts one server with one worker on a directory of its own, with a profile function that
sees each call, sends requests over a socket and prints a table. It imports nothing of the product but its command, so
PYTHONPATH chooses the version: ``PYTHONPATH=/path/to/older/checkout python benchmarks/trace.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import dis
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import registry
from registry.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Send = Callable[..., bytes]

ROUNDS = 5
"""Times that each step is traced; what all have in common counts."""
SETTLE_SECONDS = 1.2
"""Time before each step, so that the fold of the one before has ended."""
TAIL_SECONDS = 0.1
"""Time after an answer, so that what follows it, such as the line of the log, is seen too."""
BLOB_BYTES = 4096
UPLOADS = "/v2/team/app/blobs/uploads/"
MANIFESTS = "/v2/team/app/manifests/"
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
BACKGROUND = "background/schedule.py"
"""Jobs run in threads that begin here; they are no part of a request."""
OUTSIDE = ""
"""The file of a call that comes from no code of the product."""


class Recorder:
    """Counts calls of functions of the product by (file of the caller, file of the function)."""

    def __init__(self, package: Path) -> None:
        """See functions of ``package`` alone; nothing is counted before ``begin``."""
        self._prefix = f"{package}{os.sep}"
        self._resume = dis.opmap["RESUME"]
        self._calls: Counter[tuple[str, str]] | None = None

    def begin(self) -> None:
        """Count from here on."""
        self._calls = Counter()

    def end(self) -> list[tuple[str, str, int]]:
        """Return what was counted since ``begin``, and count no more."""
        calls, self._calls = self._calls or Counter(), None
        return [(caller, file, count) for (caller, file), count in calls.items()]

    def see(self, frame: FrameType, event: str, _argument: object) -> None:
        """A profile function: see ``sys.setprofile``. A coroutine that goes on is no call."""
        calls = self._calls
        if calls is None or event != "call" or not frame.f_code.co_filename.startswith(self._prefix):
            return
        code = frame.f_code.co_code
        if frame.f_lasti >= 0 and code[frame.f_lasti] == self._resume and code[frame.f_lasti + 1] & 3:
            return
        stack = list(self._files(frame))
        if BACKGROUND not in stack:
            calls[stack[1] if len(stack) > 1 else OUTSIDE, stack[0]] += 1

    def _files(self, frame: FrameType | None) -> Iterator[str]:
        """The file of each frame of the product, from ``frame`` outwards."""
        while frame is not None:
            if (file := frame.f_code.co_filename).startswith(self._prefix):
                yield file.removeprefix(self._prefix)
            frame = frame.f_back


def serve(control: socket.socket) -> None:
    """Be the server: ``registry serve`` under a profile function that ``control`` switches on and off."""
    recorder = Recorder(Path(registry.__file__).parent)

    def obey() -> None:
        with control.makefile("rw", encoding="ascii") as lines:
            for line in lines:
                counted = recorder.end()
                if line == "begin\n":
                    recorder.begin()
                lines.write(json.dumps(counted) + "\n")
                lines.flush()

    threading.Thread(target=obey, daemon=True).start()
    threading.setprofile(recorder.see)
    sys.setprofile(recorder.see)
    app(["serve"])


class Trace:
    """A running server, a connection to it, and the switch of its recorder."""

    def __init__(self, connection: http.client.HTTPConnection, control: socket.socket) -> None:
        """Trace what is sent over ``connection``."""
        self._connection = connection
        self._control = control.makefile("rw", encoding="ascii")
        self.rounds: dict[str, list[Counter[tuple[str, str]]]] = {}

    def send(self, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, str, bytes]:
        """Send a request; return status, Location and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, target, body, named)
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 400:
            raise SystemExit(f"{method} {target}: {response.status} {content!r}")
        return response.status, response.headers.get("Location", ""), content

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Record what the server does for the requests of this block."""
        time.sleep(SETTLE_SECONDS)
        self._tell("begin")
        yield
        time.sleep(TAIL_SECONDS)
        counted = Counter({(caller, file): count for caller, file, count in self._tell("end")})
        self.rounds.setdefault(name, []).append(counted)

    def _tell(self, word: str) -> list[tuple[str, str, int]]:
        self._control.write(word + "\n")
        self._control.flush()
        return [(caller, file, count) for caller, file, count in json.loads(self._control.readline())]


def push_blob(trace: Trace, data: bytes) -> dict[str, object]:
    """Push a blob as docker does, in three requests; return its descriptor's digest and size."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    place = trace.send("POST", UPLOADS)[1]
    place = trace.send("PATCH", _path(place), data, Content_Type="application/octet-stream")[1]
    separator = "&" if "?" in place else "?"
    trace.send("PUT", f"{_path(place)}{separator}digest={digest}")
    return {"digest": digest, "size": len(data)}


def _path(location: str) -> str:
    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def play(trace: Trace) -> None:
    """One round: an image is pushed and pulled."""
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", **push_blob(trace, os.urandom(64))}
    with trace.step("push of a 4 KiB blob: POST, PATCH, PUT"):
        pushed = push_blob(trace, os.urandom(BLOB_BYTES))
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", **pushed}
    manifest = {"schemaVersion": 2, "mediaType": MEDIA_TYPE, "config": config, "layers": [layer]}
    body = json.dumps(manifest).encode()
    with trace.step("PUT of a manifest with a tag"):
        trace.send("PUT", f"{MANIFESTS}latest", body, Content_Type=MEDIA_TYPE)
    for name in ("GET of a manifest, cold", "GET of a manifest, warm"):
        with trace.step(name):
            trace.send("GET", f"{MANIFESTS}latest")
    for name in ("GET of a 4 KiB blob, cold", "GET of a 4 KiB blob, warm"):
        with trace.step(name):
            trace.send("GET", f"/v2/team/app/blobs/{pushed['digest']}")


@contextlib.contextmanager
def server(directory: Path) -> Iterator[Trace]:
    """A server of its own on a free port of this machine, until the block ends."""
    ours, its = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {
        **os.environ,
        "REGISTRY_HTTP__PORT": str(port),
        "REGISTRY_HTTP__WORKERS": "1",
        "REGISTRY_STORAGE__ROOT_DIRECTORY": str(directory),
    }
    command = [sys.executable, "-P", __file__, "--control", str(its.fileno())]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, pass_fds=[its.fileno()], stdout=log, stderr=log)
    its.close()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        _wait_until_ready(connection, process, directory / "log")
        yield Trace(connection, ours)
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(connection: http.client.HTTPConnection, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(log.read_text(encoding="utf-8"))
        with contextlib.suppress(OSError):
            connection.request("GET", "/readyz")
            if connection.getresponse().read():
                return
        connection.close()
        time.sleep(0.1)
    raise SystemExit("the server is not ready after a minute")


def common(rounds: list[Counter[tuple[str, str]]]) -> Counter[tuple[str, str]]:
    """Return the calls that are in all rounds; of a pair the smallest count."""
    least = rounds[0]
    for each in rounds[1:]:
        least &= each
    return least


def table(rounds: dict[str, list[Counter[tuple[str, str]]]]) -> Iterator[str]:
    """One row of Markdown for each step."""
    yield "| request | files entered | changes of file | calls |"
    yield "|---|---|---|---|"
    for name, counted in rounds.items():
        calls = common(counted)
        files = {file for _caller, file in calls}
        changes = sum(count for (caller, file), count in calls.items() if caller != file)
        yield f"| {name} | {len(files)} | {changes} | {calls.total()} |"


def main() -> None:
    """Print the table, with ``--files`` the names too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", action="store_true", help="print the files of each step too")
    parser.add_argument("--control", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.control is not None:
        serve(socket.socket(fileno=options.control))
        return
    with tempfile.TemporaryDirectory() as directory, server(Path(directory)) as trace:
        push_blob(trace, b"the repository is there before")
        for _ in range(ROUNDS):
            play(trace)
        print("\n".join(table(trace.rounds)))
        for name, counted in trace.rounds.items() if options.files else ():
            print(f"\n{name}:\n  " + "\n  ".join(sorted({file for _caller, file in common(counted)})))


if __name__ == "__main__":
    main()

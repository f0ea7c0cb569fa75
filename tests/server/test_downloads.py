"""Large blobs over real connections: whole and in parts, to clients that stay and clients that go."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.sending import Client, call
from tests.support.payloads import digest_of
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = "large/downloads"
MIB = 1 << 20
DATA = os.urandom(MIB) * 40
DIGEST = digest_of(DATA)
TARGET = f"/v2/{REPO}/blobs/{DIGEST}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with RegistryProcess(tmp_path_factory.mktemp("downloads"), {"storage": {"fsync": False}}) as process:
        with Client(process.port) as client:
            client.push(REPO, DATA)
        yield process


def lines(server: RegistryProcess, request_id: str) -> list[dict[str, Any]]:
    """What the log says of a request, which it says soon."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [json.loads(line) for line in server.log_path.read_text().splitlines() if f'"{request_id}"' in line]
        if found:
            return found
        time.sleep(0.05)
    return []


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        (None, 0, len(DATA) - 1),
        ("bytes=0-0", 0, 0),
        ("bytes=100000-9999999", 100_000, 9_999_999),
        (f"bytes={39 * MIB}-", 39 * MIB, len(DATA) - 1),
        ("bytes=-3000000", len(DATA) - 3_000_000, len(DATA) - 1),
    ],
)
def test_a_blob_and_its_parts_arrive_and_the_connection_goes_on(
    server: RegistryProcess, wanted: str | None, first: int, last: int
) -> None:
    with Client(server.port) as client:
        for _ in range(2):
            reply = client.call("GET", TARGET, headers={"Range": wanted} if wanted else {})
            assert reply.status == (206 if wanted else 200)
            assert reply.body == DATA[first : last + 1]
            assert reply.headers["content-length"] == str(last - first + 1)
            assert client.call("GET", "/v2/").status == 200
    (line,) = lines(server, reply.headers["x-request-id"])
    assert (line["status"], line["bytes_out"]) == (reply.status, last - first + 1)


def test_several_parts_at_once(server: RegistryProcess) -> None:
    with Client(server.port) as client:
        reply = client.call("GET", TARGET, headers={"Range": "bytes=5-2000004,39000000-39000009"})
        assert reply.status == 206
        assert len(reply.body) == int(reply.headers["content-length"])
        assert b"\r\n\r\n" + DATA[5:2_000_005] + b"\r\n--" in reply.body
        assert b"\r\n\r\n" + DATA[39_000_000:39_000_010] + b"\r\n--" in reply.body
        assert client.call("HEAD", TARGET).body == b""


def sent_bytes(server: RegistryProcess) -> float:
    """Bytes of answers, as the metrics count them."""
    text = call(server.port, "GET", "/metrics").body.decode()
    found = re.search(r"^registry_http_sent_bytes_total (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_what_leaves_is_counted(server: RegistryProcess) -> None:
    before = sent_bytes(server)
    assert call(server.port, "GET", TARGET).status == 200
    deadline = time.monotonic() + 60
    while sent_bytes(server) - before < len(DATA) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(DATA) <= sent_bytes(server) - before < len(DATA) + MIB


def open_files(server: RegistryProcess) -> int:
    """Descriptors of blobs that the server holds."""
    place = Path(f"/proc/{server.pid}/fd")
    names = []
    for descriptor in place.iterdir():
        try:
            names.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    return sum("/blobs/" in name for name in names)


def test_clients_that_go_in_the_middle_leave_nothing_open(server: RegistryProcess) -> None:
    begun = []
    for _ in range(5):
        with Client(server.port) as client:
            client.begin("GET", TARGET, 0)
            response = client.opened()
            response.read(MIB)
            begun.append(response.headers["x-request-id"])
    deadline = time.monotonic() + 60
    while open_files(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_files(server) == 0
    for request_id in begun:
        (line,) = lines(server, request_id)
        assert MIB <= line["bytes_out"] < len(DATA)
    log = server.log_path.read_text()
    assert "Traceback" not in log
    assert '"level":"error"' not in log


def test_a_file_that_becomes_shorter_meanwhile_cuts_the_answer(tmp_path: Path) -> None:
    with RegistryProcess(tmp_path, {"storage": {"fsync": False}}) as server:
        with Client(server.port) as client:
            client.push(REPO, DATA)
        with Client(server.port) as client:
            client.begin("GET", TARGET, 0)
            response = client.opened()
            first = response.read(MIB)
            os.truncate(server.root / REPO / "blobs" / "sha256" / DIGEST.removeprefix("sha256:"), 30 * MIB)
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                response.read()
            assert first == DATA[:MIB]
        assert call(server.port, "HEAD", TARGET).status == 404
        assert call(server.port, "GET", TARGET).status == 404

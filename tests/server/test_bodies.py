"""Bodies that stop in the middle: what arrived is kept, and the client is told where to go on."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.server.sending import Client, Config, call
from tests.support.payloads import digest_of
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPO = "stopped/bodies"
IDLE_TIMEOUT = 1.0
DATA = os.urandom(3_000_000)
CUTS = [0, 1, 500_000, 1_500_000, 2_999_999]
"""Before, within and after the first chunk that the server writes."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    config: Config = {"http": {"idle_timeout": IDLE_TIMEOUT}, "storage": {"fsync": False}}
    with RegistryProcess(tmp_path_factory.mktemp("bodies"), config) as process:
        yield process


def offset_of(server: RegistryProcess, session: str) -> int:
    """Bytes that a session has; ``0-0`` counts as none, which no test here confuses."""
    reply = call(server.port, "GET", session)
    assert reply.status == 204, reply
    end = int(reply.headers["range"].removeprefix("0-"))
    return end + 1 if end else 0


def finish(server: RegistryProcess, session: str, offset: int) -> None:
    """Send the rest from ``offset`` on and close the upload."""
    headers = {"Content-Range": f"{offset}-{len(DATA) - 1}", "Content-Type": "application/octet-stream"}
    assert call(server.port, "PATCH", session, DATA[offset:], headers).status == 202
    assert call(server.port, "PUT", f"{session}?digest={digest_of(DATA)}").status == 201
    assert call(server.port, "GET", f"/v2/{REPO}/blobs/{digest_of(DATA)}").body == DATA


@pytest.mark.parametrize("cut", [cut for cut in CUTS if cut > 1])
def test_a_body_whose_client_vanished_goes_on_where_it_was_cut(server: RegistryProcess, cut: int) -> None:
    with Client(server.port) as client:
        session = client.start_upload(REPO)
        client.begin("PATCH", session, len(DATA))
        client.send(DATA[:cut])
    deadline = time.monotonic() + 60
    while (offset := offset_of(server, session)) < cut and time.monotonic() < deadline:
        time.sleep(0.05)
    assert offset == cut
    finish(server, session, offset)


@pytest.mark.parametrize("cut", CUTS)
def test_a_body_that_stalls_is_given_up_and_the_session_lives(server: RegistryProcess, cut: int) -> None:
    with Client(server.port) as client:
        session = client.start_upload(REPO)
        began = time.monotonic()
        client.begin("PATCH", session, len(DATA))
        client.send(DATA[:cut])
        reply = client.answer()
        seconds = time.monotonic() - began
    assert (reply.status, reply.json["errors"][0]["code"]) == (408, "BLOB_UPLOAD_INVALID")
    assert reply.headers["connection"] == "close"
    assert IDLE_TIMEOUT * 0.9 <= seconds < IDLE_TIMEOUT + 40
    kept = cut if cut > 1 else 0
    assert offset_of(server, session) == kept
    finish(server, session, cut)


def test_a_slow_body_may_take_longer_than_a_stalled_one(tmp_path: Path) -> None:
    idle_timeout = 3.0
    config: Config = {"http": {"idle_timeout": idle_timeout}, "storage": {"fsync": False}}
    pieces = [DATA[at : at + 300_000] for at in range(0, len(DATA), 300_000)]
    with RegistryProcess(tmp_path, config) as server, Client(server.port) as client:
        began = time.monotonic()
        client.begin("POST", f"/v2/{REPO}/blobs/uploads/?digest={digest_of(DATA)}", len(DATA))
        for piece in pieces:
            time.sleep(0.4)
            client.send(piece)
        assert client.answer().status == 201
        assert time.monotonic() - began > idle_timeout


def test_a_manifest_that_stalls_is_given_up(server: RegistryProcess) -> None:
    with Client(server.port) as client:
        client.begin("PUT", f"/v2/{REPO}/manifests/one", 1000)
        client.send(b"{")
        assert client.answer().status == 408


def test_what_clients_do_is_no_error_of_ours(server: RegistryProcess) -> None:
    with Client(server.port) as client:
        session = client.start_upload(REPO)
        client.begin("PATCH", session, 1000)
        client.send(b"x")
    deadline = time.monotonic() + 60
    while '"status":499' not in server.log_path.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    log = server.log_path.read_text()
    assert '"status":499' in log
    assert '"error"' not in [word for line in log.splitlines() for word in line.split(",")[:1]]
    assert "Traceback" not in log
    assert "unexpected" not in log

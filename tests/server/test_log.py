"""What the log of a running registry says of its requests."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import socket
import subprocess
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from registry import DISTRIBUTION
from registry.config.sections import DatabaseSettings, HttpSettings, S3Settings, StorageSettings, TlsSettings
from registry.config.settings import Settings
from registry.server.start_line import is_open_to_everybody, start_line
from tests.server.sending import Client, Config
from tests.support.payloads import Blob, image
from tests.support.servers import HOST, START_TIMEOUT, RegistryProcess, program

REPO = "logged/requests"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
ALWAYS = {
    "timestamp",
    "level",
    "event",
    "request_id",
    "method",
    "path",
    "status",
    "bytes_in",
    "bytes_out",
    "duration",
    "client",
}


def test_a_start_and_each_request_has_one_line_of_json(tmp_path: Path) -> None:
    """The start says what serves where and over what, a request what was asked and answered."""
    v2, kind = f"/v2/{REPO}", {"Content-Type": IMAGE.media_type, "User-Agent": "tests/1"}
    asked: list[tuple[str, str, str, int, str | None, int, int, str | None]] = []
    with RegistryProcess(tmp_path, {"log": {"format": "auto"}}) as server, Client(server.port) as client:

        def ask(method: str, target: str, digest: str | None, body: bytes = b"", error: str | None = None) -> None:
            reply = client.call(method, target, body, kind)
            path = target.partition("?")[0]
            sent = len(reply.body)
            asked.append((reply.headers["x-request-id"], method, path, reply.status, digest, len(body), sent, error))

        ask("POST", f"{v2}/blobs/uploads/?digest={CONFIG.digest}", CONFIG.digest, CONFIG.data)
        ask("PUT", f"{v2}/manifests/one", IMAGE.digest, IMAGE.data)
        for _ in range(2):  # through the routes, then from memory
            ask("GET", f"{v2}/manifests/one", IMAGE.digest)
            ask("HEAD", f"{v2}/manifests/one", IMAGE.digest)
            ask("GET", f"{v2}/blobs/{CONFIG.digest}", CONFIG.digest)
            ask("GET", f"{v2}/tags/list", None)
        ask("GET", f"{v2}/manifests/none", None, error="MANIFEST_UNKNOWN")
        ask("HEAD", f"{v2}/blobs/sha256:{'0' * 64}", f"sha256:{'0' * 64}", error="BLOB_UNKNOWN")
        ask("DELETE", f"{v2}/blobs/{CONFIG.digest}", CONFIG.digest, error="UNSUPPORTED")
        ask("DELETE", f"{v2}/manifests/{IMAGE.digest}", IMAGE.digest)
    lines: list[dict[str, Any]] = [json.loads(line) for line in server.log_path.read_text().splitlines()]
    requests = {line["request_id"]: line for line in lines if line["event"] == "request"}
    assert set(Counter(line["request_id"] for line in lines if line["event"] == "request").values()) == {1}
    for request_id, method, path, status, digest, received, sent, error in asked:
        line = requests[request_id]
        assert line.keys() >= ALWAYS
        found = (line["method"], line["path"], line["status"], line.get("digest"))
        assert found == (method, path, status, digest)
        assert (line["bytes_in"], line["bytes_out"], line.get("error_code")) == (received, sent, error), line
        assert (line["repository"], line["client"], line["user_agent"]) == (REPO, "127.0.0.1", "tests/1")
        assert 0 < line["duration"] < 60
        assert line["level"] == "info"
    (line,) = [line for line in lines if line["event"] == "listening"]
    assert (line["host"], line["port"], line["url"]) == ("127.0.0.1", server.port, server.url)
    assert (line["data"], line["database"], line["config"]) == (str(server.root), "SQLite", str(server.config_path))
    assert not [line for line in lines if line["level"] != "info"]


class Unread(RegistryProcess):
    """A server whose stderr is a pipe that nothing reads until a test does."""

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """See RegistryProcess."""
        self.directory.mkdir(parents=True, exist_ok=True)
        os.mkfifo(self.log_path)
        self.pipe = os.open(self.log_path, os.O_RDWR | os.O_NONBLOCK)
        super().start(timeout)

    def log_tail(self) -> str:
        """See RegistryProcess."""
        return "(nothing has read it)"

    def read(self) -> bytes:
        """What is in the pipe now."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.pipe, 1 << 20)
        return b""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_stderr_that_is_not_read_stops_nothing(tmp_path: Path, workers: int) -> None:
    config: Config = {"log": {"level": "debug"}, "http": {"workers": workers}, "storage": {"fsync": False}}
    server = Unread(tmp_path, config)
    with server:
        flood(server.port, seconds=0)
        deadline = time.monotonic() + 60
        while not (lost := dropped(server.port)):
            assert time.monotonic() < deadline, "the log has room for ever"
            flood(server.port, seconds=1)
        assert server.answers("/livez")
        assert server.answers("/readyz")
        # Once something reads again the log goes on, and says what is missing.
        seen = b""
        while b"lines of the log were dropped" not in seen:
            assert time.monotonic() < deadline + 60
            seen = seen[-500:] + server.read()
            server.answers("/livez")
        assert dropped(server.port) >= lost
        flood(server.port, seconds=0)  # the process ends with the pipe full
    os.close(server.pipe)


def flood(port: int, *, seconds: float) -> None:
    """Requests with long lines, and events of the other log between them, for about so long."""
    target = f"/v2/{'x' * 900}/tags/list".encode()
    requests = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target * 200
    last = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    until = time.monotonic() + seconds
    while True:
        for sent in (requests + last, b"no request\r\n\r\n"):  # the second is logged at debug
            with socket.create_connection((HOST, port), timeout=60) as connection:
                connection.sendall(sent)
                while connection.recv(1 << 16):
                    pass
        if time.monotonic() >= until:
            return


def dropped(port: int) -> float:
    """Lines that the registry counts as lost."""
    with Client(port) as client:
        text = client.call("GET", "/metrics").body.decode()
    (line,) = re.findall(r"^registry_log_lines_dropped_total (\S+)$", text, re.MULTILINE)
    return float(line)


def test_on_a_terminal_the_log_is_text(tmp_path: Path) -> None:
    server = RegistryProcess(tmp_path)
    server.config_path.write_text(json.dumps({"http": {"port": server.port}, "storage": {"root_directory": "data"}}))
    ours, theirs = pty.openpty()
    command = [*program(), "serve", "--config", str(server.config_path)]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while b"config: " not in shown:
                shown += os.read(ours, 4096)
            while not server.answers("/livez"):
                assert process.poll() is None
            while b"/livez" not in shown:
                shown += os.read(ours, 4096)
        finally:
            process.terminate()
            process.wait(30)
            os.close(ours)
    (start, *_rest) = [line for line in shown.decode().splitlines() if "data" in line and "directory" not in line]
    expected = f"Stowage {version(DISTRIBUTION)} · {server.url} · data {tmp_path}/data · SQLite · config: "
    assert f"{expected}{server.config_path}" in start
    assert b"Application startup" not in shown
    (line, *_more) = [line for line in shown.decode().splitlines() if "/livez" in line]
    assert "GET /livez " in line
    assert " ms out " in line
    assert "{" not in line


def test_an_address_that_others_reach_without_a_password_is_warned_of_once(tmp_path: Path) -> None:
    with RegistryProcess(tmp_path, {"http": {"host": "0.0.0.0", "workers": 2}}) as server:
        pass
    lines = [json.loads(line) for line in server.log_path.read_text().splitlines()]
    (warning,) = [line for line in lines if line["level"] == "warning"]
    assert warning["event"].startswith("there is no authentication")
    assert warning["url"] == f"http://0.0.0.0:{server.port}"


@pytest.mark.parametrize(
    ("host", "open_to_everybody"),
    [("127.0.0.1", False), ("127.8.0.1", False), ("::1", False), ("0.0.0.0", True), ("::", True), ("fe80::1%lo", True)],
)
def test_only_a_loopback_address_or_a_client_certificate_needs_no_warning(
    tmp_path: Path, host: str, open_to_everybody: bool
) -> None:
    pem = tmp_path / "pem"
    pem.touch()
    assert is_open_to_everybody(Settings(), host) is open_to_everybody
    asking = Settings(http=HttpSettings(tls=TlsSettings(certificate=pem, key=pem, client_ca=pem)))
    assert not is_open_to_everybody(asking, host)
    for tls in (
        TlsSettings(certificate=pem, key=pem),
        TlsSettings(certificate=pem, key=pem, client_ca=pem, client_auth="optional"),
    ):
        assert is_open_to_everybody(Settings(http=HttpSettings(tls=tls)), host) is open_to_everybody


def test_the_start_line_has_no_secret() -> None:
    bucket = S3Settings(bucket="images", access_key_id="id", secret_access_key=SecretStr("hidden"))
    settings = Settings(
        storage=StorageSettings(driver="s3", root_directory=Path("prefix"), s3=bucket),
        database=DatabaseSettings(url="postgresql://user:hidden@db.example.org/registry"),
    )
    line = start_line(settings, "::", 5000, None, workers=1)
    assert str(line).endswith(" · http://[::]:5000 · data s3://images/prefix · PostgreSQL · config: none")
    assert "hidden" not in str(line.fields())

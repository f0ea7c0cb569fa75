"""A bucket that cannot be used: `serve` and `config check` say at once what is wrong with it, and end with 2."""

from __future__ import annotations

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.replicas.conftest import Config
from tests.support.commands import finish
from tests.support.fault_proxy import FaultProxy
from tests.support.servers import free_port, program

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

AT_ONCE = 45.0
"""Seconds, with the start of the interpreter on a busy machine."""


def said(config: Config, directory: Path, *command: str, environment: dict[str, str] | None = None) -> tuple[int, Any]:
    """The exit code and the document of a command with this configuration."""
    path = directory / "config.json"
    path.write_text(json.dumps({"http": {"port": free_port()}, **config}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "AWS_"))}
    begun = time.monotonic()
    done = finish(
        [*program(), *command, "--config", str(path), "--json"],
        directory=directory,
        environment=kept | {"HOME": str(directory), "AWS_EC2_METADATA_DISABLED": "true"} | (environment or {}),
    )
    assert time.monotonic() - begun < AT_ONCE
    return done.returncode, json.loads(done.stdout)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "wrong bucket": ({"bucket": "nobody-made-this"}, "storage.s3.bucket"),
    "wrong access key": ({"access_key_id": "stranger"}, "access_key_id"),
    "wrong secret": ({"secret_access_key": "guessed"}, "secret_access_key"),
    "unreachable endpoint": ({"endpoint_url": "http://127.0.0.1:9"}, "storage.s3.endpoint_url"),
    "no store at the endpoint": ({"endpoint_url": "http://no-such-host.invalid"}, "storage.s3.endpoint_url"),
    "nonsense for an endpoint": ({"endpoint_url": "not an address"}, "storage.s3.endpoint_url"),
    "no credentials": ({"access_key_id": None, "secret_access_key": None}, "access_key_id"),
}


@pytest.mark.parametrize("command", [("config", "check"), ("serve",)], ids=" ".join)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(config: Config, tmp_path: Path, mistake: str, command: tuple[str, ...]) -> None:
    values, named = MISTAKES[mistake]
    config["storage"]["s3"] |= values
    code, document = said(config, tmp_path, *command)
    assert code == 2, document
    (problem,) = document["problems"]
    assert problem["key"].startswith("storage.s3")
    assert named in f"{problem['key']}: {problem['message']}"
    assert problem["source"].endswith(".json")


class _Elsewhere(BaseHTTPRequestHandler):
    """Amazon's answer in another region than that of the bucket; the real server here does not look at the region."""

    code = "AuthorizationHeaderMalformed"

    def do_GET(self) -> None:
        body = f"<Error><Code>{self.code}</Code><Message>expecting 'eu-central-1'</Message></Error>".encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_wrong_region_is_named(config: Config, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config["storage"]["s3"]["endpoint_url"] = f"http://127.0.0.1:{server.server_port}"
        code, document = said(config, tmp_path, "config", "check")
        server.shutdown()
    assert code == 2
    assert "storage.s3.region" in document["problems"][0]["message"]


@pytest.mark.parametrize("kind", ["PutObject", "ListObjectsV2"])
def test_a_right_that_is_missing_is_named(config: Config, tmp_path: Path, proxy: FaultProxy, kind: str) -> None:
    proxy.fail(kind, status=403, times=None)
    config["storage"]["s3"]["endpoint_url"] = proxy.url
    code, document = said(config, tmp_path, "config", "check")
    assert code == 2
    assert "may not" in document["problems"][0]["message"]


def test_a_section_that_is_missing_is_named(config: Config, tmp_path: Path) -> None:
    del config["storage"]["s3"]
    code, document = said(config, tmp_path, "config", "check")
    assert code == 2
    assert document["problems"][0]["key"] == "storage.s3"


def test_credentials_come_from_the_environment_where_the_configuration_has_none(config: Config, tmp_path: Path) -> None:
    s3 = config["storage"]["s3"]
    environment = {"AWS_ACCESS_KEY_ID": s3.pop("access_key_id"), "AWS_SECRET_ACCESS_KEY": s3.pop("secret_access_key")}
    assert said(config, tmp_path, "config", "check", environment=environment) == (
        0,
        {"problems": [], "conditional_writes": True, "notes": []},
    )


def test_credentials_come_from_a_profile(config: Config, tmp_path: Path) -> None:
    s3 = config["storage"]["s3"]
    credentials = tmp_path / "credentials"
    key, secret = s3.pop("access_key_id"), s3.pop("secret_access_key")
    credentials.write_text(f"[team]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    environment = {"AWS_PROFILE": "team", "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    assert said(config, tmp_path, "config", "check", environment=environment)[0] == 0
    environment["AWS_PROFILE"] = "nobody"
    code, document = said(config, tmp_path, "config", "check", environment=environment)
    assert code == 2
    assert "nobody" in document["problems"][0]["message"]

"""Jobs of a server that serves: retention and scrubs run by their schedule, and metrics count what they did."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.maintenance.scrub.place import flip_file
from tests.server.sending import Client
from tests.support.payloads import Blob, image
from tests.support.servers import RegistryProcess

REPO = "team/app"
RULE = {"name": "short", "repositories": ["**"], "tags": ["pr-*"], "keep": {"any": {"pushed_within": 0}}}


@pytest.mark.parametrize("workers", [1, 2])
def test_retention_runs_while_serving(tmp_path: Path, workers: int) -> None:
    blob = Blob(b"{}")
    made = image(blob, [])
    config: dict[str, dict[str, object]] = {
        "http": {"workers": workers},
        "storage": {"fsync": False},
        "retention": {"mode": "apply", "interval": 0.2, "rules": [RULE]},
    }
    with RegistryProcess(tmp_path, config) as server, Client(server.port) as client:
        client.push(REPO, blob.data)
        for tag in ("pr-1", "pr-2", "v1"):
            path = f"/v2/{REPO}/manifests/{tag}"
            assert client.call("PUT", path, made.data, {"Content-Type": made.media_type}).status == 201
        deadline = time.monotonic() + 60
        while client.call("GET", f"/v2/{REPO}/tags/list").json["tags"] != ["v1"]:
            assert time.monotonic() < deadline, server.log_tail()
            time.sleep(0.1)
        while "registry_retention_tags_removed_total 2.0" not in client.call("GET", "/metrics").body.decode():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.call("GET", f"/v2/{REPO}/manifests/{made.digest}").status == 200
        assert 'registry_retention_runs_total{result="done"}' in client.call("GET", "/metrics").body.decode()


def test_usage_is_counted_while_serving(tmp_path: Path) -> None:
    blob = Blob(b"{}" * 50)
    made = image(blob, [])
    config: dict[str, dict[str, object]] = {"storage": {"fsync": False}, "metrics": {"usage_interval": 0.2}}
    with RegistryProcess(tmp_path, config) as server, Client(server.port) as client:
        client.push(REPO, blob.data)
        assert (
            client.call("PUT", f"/v2/{REPO}/manifests/v1", made.data, {"Content-Type": made.media_type}).status == 201
        )
        deadline = time.monotonic() + 60
        stored = f"registry_usage_stored_bytes {float(len(blob.data) + len(made.data))}"
        while stored not in (found := client.call("GET", "/metrics").body.decode()):
            assert time.monotonic() < deadline, server.log_tail()
            time.sleep(0.1)
        assert "registry_usage_repositories 1.0" in found
        assert 'registry_usage_waiting_bytes{kind="trash"} 0.0' in found


@pytest.mark.parametrize("workers", [1, 2])
def test_scrubs_run_while_serving(tmp_path: Path, workers: int) -> None:
    config: dict[str, dict[str, object]] = {
        "http": {"workers": workers},
        "storage": {"fsync": False},
        "scrub": {"interval": 0.2},
    }
    right, wrong = Blob(b"right"), Blob(b"wrong")
    with RegistryProcess(tmp_path, config) as server, Client(server.port) as client:
        for blob in (right, wrong):
            client.push(REPO, blob.data)
        flip_file(server.root / REPO / "blobs" / wrong.digest.replace(":", "/"))
        deadline = time.monotonic() + 60
        while client.call("GET", f"/v2/{REPO}/blobs/{wrong.digest}").status != 404:
            assert time.monotonic() < deadline, server.log_tail()
            time.sleep(0.1)
        wanted = ('registry_scrub_objects_total{result="wrong"}', "registry_scrub_bytes_total", "last_success")
        while not all(each in client.call("GET", "/metrics").body.decode() for each in wanted):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.call("GET", f"/v2/{REPO}/blobs/{right.digest}").body == right.data
        assert "a scrub has found a blob damaged" in server.log_tail()


def test_a_server_that_scrubs_slowly_ends_at_once(tmp_path: Path) -> None:
    config: dict[str, dict[str, object]] = {"storage": {"fsync": False}, "scrub": {"interval": 0.2, "rate": "8KiB"}}
    with RegistryProcess(tmp_path, config) as server:
        with Client(server.port) as client:
            client.push(REPO, bytes(1 << 20))
            deadline = time.monotonic() + 60
            while "registry_scrub_bytes_total" not in client.call("GET", "/metrics").body.decode():
                assert time.monotonic() < deadline
                time.sleep(0.1)
        time.sleep(1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 60, "what is left of the blob takes two minutes"

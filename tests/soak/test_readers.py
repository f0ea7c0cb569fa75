"""Other tools read and write a repository's directory while the registry works in it (design, "Outside writers")."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.soak import disk
from tests.soak.budget import SEED, announce, budget
from tests.soak.client import Client
from tests.soak.history import History
from tests.soak.loss import require_kept
from tests.soak.pushers import Crowd
from tests.support.payloads import Blob, image
from tests.support.servers import RegistryProcess
from tests.support.tools import tool

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

REPOSITORY = "readers/one"
SECONDS = budget(sample=12, full=300)
"""How long tools read while the registry writes."""
PICKED_UP = 300.0
"""Seconds after which what another tool wrote will never be served: it is looked for every 5 s."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    announce()
    with RegistryProcess(tmp_path_factory.mktemp("readers"), {"http": {"workers": 2}}) as process:
        with Client(process.port) as client:
            push(client, "fixed")
        wait_for(lambda: "fixed" in disk.tags(process.root / REPOSITORY))
        yield process


def push(client: Client, tag: str) -> str:
    """Push a small image that no other tag has; its digest."""
    config, layer = Blob(f'{{"tag": "{tag}"}}'.encode()), Blob(f"layer of {tag}".encode() * 100)
    manifest = image(config, [layer])
    for blob in (config, layer):
        client.push_blob(REPOSITORY, blob)
    client.push_manifest(REPOSITORY, manifest, tag)
    return manifest.digest


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something holds; AssertionError when it does not in time."""
    deadline = time.monotonic() + PICKED_UP
    while not condition():
        assert time.monotonic() < deadline, f"not within {PICKED_UP} s"
        time.sleep(0.1)


def points_at(client: Client, tag: str, digest: str | None) -> bool:
    """Whether the registry serves a tag so."""
    return client.digest_of_tag(REPOSITORY, tag) == digest


def run(*command: str | Path) -> None:
    """Run a program; its output stands in the failure."""
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=PICKED_UP
    )
    assert result.returncode == 0, f"{command}: {result.stderr or result.stdout}"


def test_the_directory_is_readable_at_every_instant(server: RegistryProcess, tmp_path: Path) -> None:
    """Pushes, moved tags and deletions go on while index and blobs are read as fast as can be, and by skopeo."""
    skopeo = tool("skopeo")
    directory = server.root / REPOSITORY
    deadline = time.monotonic() + SECONDS
    deleting = threading.Thread(target=_delete_until, args=(server.port, deadline))
    deleting.start()
    reads = copies = 0
    with Crowd(3, partial(Client, server.port), (REPOSITORY,), History(), SEED) as crowd:
        crowd.resume()
        while time.monotonic() < deadline:
            _read_as_a_tool(directory)
            reads += 1
            if reads % 20 == 1:
                run(skopeo, "copy", "--quiet", f"oci:{directory}:fixed", f"dir:{tmp_path / f'copy{copies}'}")
                copies += 1
    deleting.join()
    assert reads >= SECONDS
    assert copies
    assert crowd.pushed > SECONDS, "the registry hardly wrote"


def _delete_until(port: int, deadline: float) -> None:
    """Push and delete images that no other client deletes, by tag and by digest in turn."""
    with Client(port) as client:
        for number in itertools.count():
            if time.monotonic() >= deadline:
                return
            digest = push(client, f"deleted{number}")
            reference = digest if number % 2 else f"deleted{number}"
            reply = client.call("DELETE", f"/v2/{REPOSITORY}/manifests/{reference}")
            assert reply.status == 202, reply
            time.sleep(0.05)


def _read_as_a_tool(directory: Path) -> None:
    """Read the index once and then a tag through it, the way every tool does.

    A manifest that is deleted between the two reads of one tool is gone for it; then a newer index does not list it.
    """
    index = json.loads((directory / "index.json").read_bytes())
    for entry in random.Random(time.monotonic()).sample(index["manifests"], min(5, len(index["manifests"]))):
        try:
            disk.check_content(directory, entry)
        except FileNotFoundError:
            current = json.loads((directory / "index.json").read_bytes())
            listed = {found["digest"] for found in current["manifests"]}
            assert entry["digest"] not in listed, f"{entry['digest']} is listed and not there"


def make_layout(directory: Path, *tags: str) -> dict[str, str]:
    """An OCI layout on disk with one image for each tag; their digests."""
    digests = {}
    entries = []
    (directory / "blobs" / "sha256").mkdir(parents=True)
    for tag in tags:
        config, layer = Blob(f'{{"outside": "{tag}"}}'.encode()), Blob(f"outside {tag}".encode() * 50)
        manifest = image(config, [layer])
        for data in (config.data, layer.data, manifest.data):
            digest = Blob(data).digest
            (directory / "blobs" / "sha256" / digest.split(":")[1]).write_bytes(data)
        entries.append(manifest.descriptor() | {"annotations": {disk.REF_NAME: tag}})
        digests[tag] = manifest.digest
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return digests


@pytest.mark.parametrize("name", ["skopeo", "oras", "umoci"])
def test_what_another_tool_adds_is_served_and_what_we_acknowledged_stays(
    server: RegistryProcess, tmp_path: Path, name: str
) -> None:
    program = tool(name)
    directory = server.root / REPOSITORY
    wanted = make_layout(tmp_path / "source", "outside")
    additions: dict[str, Callable[[str], None]] = {
        "skopeo": lambda tag: run(
            program,
            "copy",
            "--preserve-digests",
            "--quiet",
            f"oci:{tmp_path / 'source'}:outside",
            f"oci:{directory}:{tag}",
        ),
        "oras": lambda tag: run(
            program,
            "cp",
            "--from-oci-layout",
            f"{tmp_path / 'source'}:outside",
            "--to-oci-layout",
            f"{directory}:{tag}",
        ),
        "umoci": lambda tag: run(program, "tag", "--image", f"{directory}:fixed", tag),
    }
    with Client(server.port) as client:
        ours = {"fixed": client.digest_of_tag(REPOSITORY, "fixed")}
        for number in range(budget(sample=3, full=20)):
            before, after = f"before-{name}{number}", f"after-{name}{number}"
            ours[before] = push(client, before)
            additions[name](f"{name}{number}")
            ours[after] = push(client, after)
            expected = ours["fixed"] if name == "umoci" else wanted["outside"]
            wait_for(partial(points_at, client, f"{name}{number}", expected))
            pulled = client.call("GET", f"/v2/{REPOSITORY}/manifests/{name}{number}")
            for layer in json.loads(pulled.body)["layers"]:
                assert client.call("GET", f"/v2/{REPOSITORY}/blobs/{layer['digest']}").status == 200
        for tag, digest in ours.items():
            assert client.digest_of_tag(REPOSITORY, tag) == digest, tag
        tags = {tag: client.digest_of_tag(REPOSITORY, tag) for tag in client.tags(REPOSITORY)}
    wait_for(lambda: disk.tags(directory) == tags)


def test_a_layout_that_is_put_on_disk_is_a_repository(server: RegistryProcess, tmp_path: Path) -> None:
    wanted = make_layout(tmp_path / "source", "one", "two")
    shutil.copytree(tmp_path / "source", server.root / "readers" / "placed")
    with Client(server.port) as client:
        wait_for(lambda: set(client.tags("readers/placed")) == set(wanted))
        for tag, digest in wanted.items():
            assert client.digest_of_tag("readers/placed", tag) == digest


def test_a_layout_that_arrives_slowly_is_a_repository_when_it_is_there(server: RegistryProcess, tmp_path: Path) -> None:
    """As ``cp -r`` may put it there: the index before what it names, and each file growing in its place."""
    wanted = make_layout(tmp_path / "source", "one", "two")
    place = server.root / "readers" / "arriving"
    (place / "blobs" / "sha256").mkdir(parents=True)
    for name in ("index.json", "oci-layout"):
        shutil.copy(tmp_path / "source" / name, place / name)
    with Client(server.port) as client:
        assert client.tags("readers/arriving") == []
        for source in sorted((tmp_path / "source" / "blobs" / "sha256").iterdir()):
            data = source.read_bytes()
            with (place / "blobs" / "sha256" / source.name).open("wb") as growing:
                growing.write(data[:9])
                growing.flush()
                client.call("GET", f"/v2/readers/arriving/blobs/sha256:{source.name}")
                time.sleep(1)
                growing.write(data[9:])
        wait_for(lambda: set(client.tags("readers/arriving")) == set(wanted))
        for tag, digest in wanted.items():
            assert client.digest_of_tag("readers/arriving", tag) == digest
        for source in (tmp_path / "source" / "blobs" / "sha256").iterdir():
            reply = client.call("GET", f"/v2/readers/arriving/blobs/sha256:{source.name}")
            assert (reply.status, reply.body) == (200, source.read_bytes())


def test_a_blob_that_a_tool_wrote_wrongly_is_never_served(server: RegistryProcess) -> None:
    blob = Blob(b"the bytes that the name promises")
    path = server.root / REPOSITORY / "blobs" / "sha256" / blob.digest.split(":")[1]
    path.write_bytes(b"other bytes of the same length!!"[: len(blob.data)])
    with Client(server.port) as client:
        target = f"/v2/{REPOSITORY}/blobs/{blob.digest}"
        assert client.call("GET", target).status == 404
        client.push_blob(REPOSITORY, blob)
        assert client.call("GET", target).body == blob.data
    assert path.read_bytes() == blob.data


def test_a_push_heals_what_something_rewrote_on_disk(server: RegistryProcess) -> None:
    """A 201 stands for the bytes that the client sent, also where a file of that size and name was there already."""
    blob = Blob(b"bytes that rot on the disk" * 100)
    with Client(server.port) as client:
        client.push_blob(REPOSITORY, blob)
        path = server.root / REPOSITORY / "blobs" / "sha256" / blob.digest.split(":")[1]
        path.write_bytes(b"x" * len(blob.data))
        for repository in ("readers/two", REPOSITORY):
            client.push_blob(repository, blob)
            reply = client.call("GET", f"/v2/{repository}/blobs/{blob.digest}")
            require_kept((reply.status, reply.body == blob.data) == (200, True), repository)

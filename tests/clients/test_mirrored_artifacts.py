"""oras and cosign at a mirror: what is attached upstream is found, as referrers and as tags, also without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.servers import DISTRIBUTION, SERVERS, ZOT, Running
from tests.clients.layouts import random_bytes
from tests.clients.wire import Wire
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.client import Client

pytestmark = [pytest.mark.clients, pytest.mark.tools("oras", "cosign")]
PLAIN = "--plain-http"
NOTE = "application/vnd.stowage.note"
HTTP = "--allow-http-registry"
VERIFY = ("--key=cosign.pub", "--insecure-ignore-tlog=true", HTTP)
SIGN = ("--yes", "--key=cosign.key", "--tlog-upload=false", HTTP)


@pytest.fixture(
    params=[
        pytest.param(DISTRIBUTION, marks=pytest.mark.tools("registry")),
        pytest.param(ZOT, marks=pytest.mark.tools("zot")),
    ]
)
def upstream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    """A registry of another make: the first one has no referrers, the second one has."""
    with Running(SERVERS[request.param], tmp_path) as running:
        yield running


@pytest.fixture
def mirror(upstream: Running, tmp_path: Path) -> Iterator[RegistryProcess]:
    section = {"name": "up", "prefix": "up", "url": [f"http://127.0.0.1:{upstream.port}"], "proxy": None, "ttl": 1}
    with RegistryProcess(tmp_path / "mirror", {"mirrors": [section]}) as server:
        yield server


@pytest.fixture
def oras(new_client: Callable[[str], Client]) -> Client:
    client = new_client("oras")
    (client.home / "data.bin").write_bytes(random_bytes(400_000))
    (client.home / "note.txt").write_text("a note\n", encoding="utf-8")
    return client


def referrers(oras: Client, reference: str) -> set[str]:
    """What oras discovers."""
    found = oras.json("discover", PLAIN, "--format=json", "--depth=1", reference)
    return {entry["digest"] for entry in found.get("referrers") or []}


def test_what_is_attached_upstream_is_discovered_and_pulled(
    oras: Client, upstream: Running, mirror: RegistryProcess
) -> None:
    there, here = f"127.0.0.1:{upstream.port}/team/app:1", f"{mirror.address}/up/team/app:1"
    oras.run("push", PLAIN, "--artifact-type=application/vnd.stowage.thing", there, "data.bin:application/x.data")
    kind = f"--artifact-type={NOTE}"
    attached = oras.json("attach", PLAIN, "--format=json", kind, there, "note.txt:text/plain")["digest"]
    assert referrers(oras, here) == {attached}
    for reference, name in ((here, "data.bin"), (f"{here.removesuffix(':1')}@{attached}", "note.txt")):
        oras.run("pull", PLAIN, "--output", oras.home / "out", reference)
        assert (oras.home / "out" / name).read_bytes() == (oras.home / name).read_bytes()
    upstream.__exit__(None, None, None)
    assert referrers(oras, here) == {attached}
    mirror.restart()
    assert referrers(oras, here) == {attached}, "by another process, which has asked for nothing"
    oras.run("pull", PLAIN, "--output", oras.home / "again", here)
    assert (oras.home / "again" / "data.bin").read_bytes() == (oras.home / "data.bin").read_bytes()


def test_signatures_in_tags_are_verified_at_the_mirror(
    oras: Client, new_client: Callable[[str], Client], upstream: Running, mirror: RegistryProcess
) -> None:
    there, here = f"127.0.0.1:{upstream.port}/team/app", f"{mirror.address}/up/team/app"
    pushed = oras.json("push", PLAIN, "--format=json", f"{there}:1", "data.bin:application/x.data")["digest"]
    cosign = new_client("cosign")
    cosign.environment |= {
        "COSIGN_PASSWORD": "",
        "TUF_MIRROR": "http://127.0.0.1:1",
        "TUF_ROOT": str(cosign.home / "t"),
    }
    cosign.run("generate-key-pair")
    cosign.run("sign", *SIGN, f"{there}@{pushed}")
    assert pushed in cosign.run("verify", *VERIFY, f"{here}@{pushed}")
    assert Wire(mirror.address).tags("up/team/app") == ["1", f"{pushed.replace(':', '-')}.sig"]
    upstream.__exit__(None, None, None)
    assert pushed in cosign.run("verify", *VERIFY, f"{here}@{pushed}")

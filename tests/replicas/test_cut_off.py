"""A replica that does not reach PostgreSQL: what is taken away elsewhere is refused there as well (check 12)."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import bcrypt
import pytest

from registry.auth.keys.api_keys import SILENT
from tests.clients.wire import Wire
from tests.replicas.conftest import Config
from tests.support.payloads import Blob, image
from tests.support.postgresql import Cluster
from tests.support.servers import RegistryProcess
from tests.support.silent_proxy import SilentProxy

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")]

TIMEOUT = 20.0
"""Seconds that the cut off replica waits for its database: what looks at files must not wait along."""
SLACK = 4.0
"""Seconds of a busy machine."""
MANIFEST = "/v2/team/app/manifests/one"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """A server of PostgreSQL that listens on a port."""
    running = Cluster(tcp=True)
    yield running
    running.remove()


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text(f"{line('alice')}{line('bob')}")
    return path


def line(user: str) -> str:
    return f"{user}:{bcrypt.hashpw(user.encode(), bcrypt.gensalt(4)).decode()}\n"


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def refused_within(wire: Wire, path: str, caller: dict[str, str], seconds: float) -> None:
    """Ask until the answer is 401; all answers before tell nothing of what is there, or were given in time."""
    end = time.monotonic() + seconds
    while (answer := wire.request("GET", path, headers=caller)).status != HTTPStatus.UNAUTHORIZED:
        assert time.monotonic() < end, f"after {seconds} seconds {path} still is {answer.status}"
        time.sleep(0.1)


def test_a_replica_that_is_cut_off_refuses_keys_and_users_that_are_gone(
    config: Config, own_cluster: Cluster, users: Path, replica: Callable[[Config], RegistryProcess]
) -> None:
    assert own_cluster.port is not None
    url = own_cluster.create()
    guarded = {
        **config,
        "database": {"url": url, "timeout": TIMEOUT},
        "auth": {"htpasswd": {"file": str(users)}},
        "access": {"rules": [{"who": ["alice", "bob"], "repositories": ["**"], "actions": ["push"]}]},
    }
    with SilentProxy(own_cluster.port) as proxy:
        through = {**guarded["database"], "url": url.replace(f":{own_cluster.port}/", f":{proxy.port}/")}
        near, far = Wire(replica(guarded).address), Wire(replica({**guarded, "database": through}).address)
        alice, bob = basic("alice", "alice"), basic("bob", "bob")
        made = [near.request("POST", "/api/v1/keys", b"{}", {**alice, **JSON}).json() for _ in range(2)]
        gone, kept = (basic("", each["secret"]) for each in made)
        upload = f"/v2/team/app/blobs/uploads/?digest={CONFIG.digest}"
        assert near.request("POST", upload, CONFIG.data, gone).status == HTTPStatus.CREATED
        kind = {"Content-Type": IMAGE.media_type}
        assert near.request("PUT", MANIFEST, IMAGE.data, {**gone, **kind}).status == HTTPStatus.CREATED
        bought = far.request("GET", "/auth/token?scope=repository:team/app:pull", headers=gone).json()["token"]
        token = {"Authorization": f"Bearer {bought}"}
        for caller in (gone, kept, token, bob):
            assert far.request("GET", "/v2/", headers=caller).status == HTTPStatus.OK
            assert far.request("GET", MANIFEST, headers=caller).status == HTTPStatus.OK

        proxy.passing.clear()
        assert near.request("DELETE", f"/api/v1/keys/{made[0]['id']}", headers=alice).status == HTTPStatus.NO_CONTENT
        users.write_text(line("alice"))
        refused_within(far, "/v2/", bob, 1 + SLACK)
        for caller in (gone, token):
            refused_within(far, "/v2/", caller, SILENT + SLACK)
            assert far.request("GET", MANIFEST, headers=caller).status == HTTPStatus.UNAUTHORIZED
        assert far.request("GET", "/v2/", headers=kept).status == HTTPStatus.OK, "storage knows of it"

        proxy.passing.set()
        end = time.monotonic() + TIMEOUT + SLACK
        while far.request("GET", MANIFEST, headers=kept).status != HTTPStatus.OK:
            assert time.monotonic() < end
            time.sleep(0.2)
        for caller in (gone, token, bob):
            assert far.request("GET", MANIFEST, headers=caller).status == HTTPStatus.UNAUTHORIZED


JSON = {"Content-Type": "application/json"}

"""A digest is no right: a caller whose manifest names the blob of another repository never gets its bytes (I12).

With rules, so that the private repository can be read by its owner alone; over a directory, and over a bucket with a
replica that has never seen either repository.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from registry.auth.passwords.password_hash import PasswordHash
from tests.clients.wire import Wire
from tests.support.payloads import Blob, image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.replicas.conftest import Config
    from tests.support.postgresql import Cluster
    from tests.support.servers import RegistryProcess

PRIVATE, EVIL = "private/app", "evil/app"
CONFIG, SECRET = Blob(b'{"of": "both"}'), Blob(b"a layer of the private repository " * 100)
SPARSE = image(CONFIG, [SECRET])
RULES = [
    {"who": ["owner"], "repositories": ["private/**"], "actions": ["push"]},
    {"who": ["thief"], "repositories": ["evil/**"], "actions": ["push", "delete"]},
]
MOUNT = f"/v2/{EVIL}/blobs/uploads/?mount={SECRET.digest}"


def guarded(directory: Path, config: Config) -> Config:
    """With two users, neither of which sees the repository of the other, and manifests that may lack something."""
    users = directory / "htpasswd"
    users.write_text("".join(f"{user}:{PasswordHash.make(user, 'bcrypt').text}\n" for user in ("owner", "thief")))
    sections: Config = {
        "auth": {"htpasswd": {"file": str(users)}},
        "access": {"rules": RULES},
        "manifests": {"missing_blobs": "accept"},
    }
    return {**config, **sections}


class User:
    """A user of a registry."""

    def __init__(self, server: RegistryProcess, name: str) -> None:
        self._wire = Wire(server.address)
        self._login = {"Authorization": f"Basic {b64encode(f'{name}:{name}'.encode()).decode()}"}

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        return self._wire.request(method, path, body, {**self._login, **headers})

    def push(self, repository: str, *blobs: Blob) -> None:
        """Push the image with these blobs of it."""
        for blob in blobs:
            opened = f"/v2/{repository}/blobs/uploads/?digest={blob.digest}"
            assert self.ask("POST", opened, blob.data).status == 201
        headers = {"Content-Type": SPARSE.media_type}
        assert self.ask("PUT", f"/v2/{repository}/manifests/one", SPARSE.data, **headers).status == 201


def require_withheld(server: RegistryProcess) -> None:
    """The thief gets the manifest and nothing of the secret, by whatever way; the owner has it."""
    thief, owner = User(server, "thief"), User(server, "owner")
    assert thief.ask("GET", f"/v2/{EVIL}/manifests/one").body == SPARSE.data
    for method in ("HEAD", "GET"):
        assert thief.ask(method, f"/v2/{EVIL}/blobs/{SECRET.digest}").status == 404
        assert thief.ask(method, f"/v2/{PRIVATE}/blobs/{SECRET.digest}").status == 403
        assert thief.ask(method, f"/v2/{EVIL}/blobs/{CONFIG.digest}").status == 200
    for source in ("", f"&from={PRIVATE}"):
        assert thief.ask("POST", MOUNT + source, b"").status == 202
    assert owner.ask("GET", f"/v2/{PRIVATE}/blobs/{SECRET.digest}").body == SECRET.data


def steal(server: RegistryProcess) -> None:
    User(server, "owner").push(PRIVATE, CONFIG, SECRET)
    User(server, "thief").push(EVIL, CONFIG)
    require_withheld(server)


def test_a_directory_withholds_it_also_when_its_database_is_lost(
    tmp_path: Path, replica: Callable[[Config], RegistryProcess]
) -> None:
    config: Config = {"database": {"url": f"sqlite:///{tmp_path / 'first.db'}"}}
    storage = {"storage": {"root_directory": str(tmp_path / "storage"), "fsync": False}}
    server = replica(guarded(tmp_path, {**config, **storage}))
    steal(server)
    server.stop()
    for name in ("rebuilt", "touched"):
        lost: Config = {**storage, "database": {"url": f"sqlite:///{tmp_path / name}.db"}}
        server = replica(guarded(tmp_path, lost))
        require_withheld(server)
        assert server.run("rebuild")["problems"] == []
        require_withheld(server)
        server.stop()


@pytest.mark.stores
@pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")
def test_a_bucket_withholds_it_from_a_rebuild_a_first_touch_and_another_replica(
    tmp_path: Path, shared_config: Config, cluster: Cluster, replica: Callable[[Config], RegistryProcess]
) -> None:
    config = guarded(tmp_path, shared_config)
    first, second = replica(config), replica(config)
    steal(first)
    require_withheld(second)
    assert second.run("rebuild")["problems"] == []
    for server in (first, second):
        require_withheld(server)
        server.stop()
    touching = replica({**config, "database": {"url": cluster.create()}})
    require_withheld(touching)  # each is read from the bucket when it is asked for
    touching.stop()
    rebuilt_config = {**config, "database": {"url": cluster.create()}}
    rebuilt = replica(rebuilt_config)
    assert rebuilt.run("rebuild")["problems"] == []
    require_withheld(rebuilt)
    User(rebuilt, "thief").push(EVIL, SECRET)  # it has the bytes
    rebuilt.stop()
    later = replica({**config, "database": {"url": cluster.create()}})
    assert User(later, "thief").ask("GET", f"/v2/{EVIL}/blobs/{SECRET.digest}").body == SECRET.data

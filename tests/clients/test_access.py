"""Clients of a registry with rules: what is public without a login, what is not with one, and clear refusals.

One registry for all of them: ``public/**`` may be pulled without credentials, alice may do everything in ``team/**``,
bob may pull there, and no rule says anything of ``secret/**`` but for carol.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest

from registry.auth.passwords.password_hash import PasswordHash
from tests.clients.daemon import DockerDaemon
from tests.clients.layouts import layout_content, tagged
from tests.clients.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.layouts import Layout
    from tests.support.backends import Backend
    from tests.support.servers import Registry

pytestmark = pytest.mark.clients

PASSWORDS = {"alice": "wonderland", "bob": "builder", "carol": "singer"}
RULES = [
    {"who": ["anonymous"], "repositories": ["public/**"], "actions": ["pull"]},
    {"who": ["alice"], "repositories": ["team/**", "public/**"], "actions": ["pull", "push", "delete"]},
    {"who": ["bob"], "repositories": ["team/**"], "actions": ["pull"]},
    {"who": ["carol"], "repositories": ["secret/**"], "actions": ["pull", "push"]},
]


@pytest.fixture(scope="module")
def guarded(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The registry."""
    directory = tmp_path_factory.mktemp("guarded")
    users = directory / "htpasswd"
    users.write_text(
        "".join(f"{user}:{PasswordHash.make(password, 'bcrypt').text}\n" for user, password in PASSWORDS.items())
    )
    server = backend.registry(
        directory / "registry", {"auth": {"htpasswd": {"file": str(users)}}, "access": {"rules": RULES}}
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def address(guarded: Registry) -> str:
    return guarded.address


class Seen(NamedTuple):
    """What a caller finds."""

    status: int
    digest: str | None


def seen(address: str, repository: str, tag: str, user: str) -> Seen:
    """The manifest of a tag, by Basic."""
    login = b64encode(f"{user}:{PASSWORDS[user]}".encode()).decode()
    answer = Wire(address).request(
        "HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Authorization": f"Basic {login}"}
    )
    return Seen(answer.status, answer.headers.get("docker-content-digest"))


class Program(Protocol):
    """A client program that speaks to the registry, with a home of its own: it has not logged in."""

    client: Client
    address: str

    def login(self, user: str, password: str) -> list[str]:
        """The command of a login."""

    def push(self, layout: Path, reference: str) -> list[str]:
        """The command that pushes the image `single` of a layout."""

    def pull(self, reference: str, into: Path) -> list[str]:
        """The command that pulls an image into a directory."""


class Crane:
    """crane speaks HTTP to loopback addresses by itself."""

    name = "crane"

    def __init__(self, client: Client, address: str) -> None:
        self.client, self.address = client, address

    def login(self, user: str, password: str) -> list[str]:
        return ["auth", "login", self.address, "--username", user, "--password", password]

    def push(self, layout: Path, reference: str) -> list[str]:
        return ["push", str(layout), reference]

    def pull(self, reference: str, into: Path) -> list[str]:
        return ["pull", "--format=oci", reference, str(into)]


class Skopeo:
    """skopeo, and so what podman and buildah do: one library."""

    name = "skopeo"

    def __init__(self, client: Client, address: str) -> None:
        self.client, self.address = client, address

    def login(self, user: str, password: str) -> list[str]:
        return ["login", "--tls-verify=false", "--username", user, "--password", password, self.address]

    def push(self, layout: Path, reference: str) -> list[str]:
        return [
            "copy",
            "--preserve-digests",
            "--dest-tls-verify=false",
            f"oci:{layout}:single",
            f"docker://{reference}",
        ]

    def pull(self, reference: str, into: Path) -> list[str]:
        return ["copy", "--preserve-digests", "--src-tls-verify=false", f"docker://{reference}", f"oci:{into}:single"]


class Oras:
    """oras, and so what helm and notation do: one library."""

    name = "oras"

    def __init__(self, client: Client, address: str) -> None:
        self.client, self.address = client, address

    def login(self, user: str, password: str) -> list[str]:
        return ["login", "--plain-http", "--username", user, "--password", password, self.address]

    def push(self, layout: Path, reference: str) -> list[str]:
        return ["cp", "--from-oci-layout", "--to-plain-http", f"{layout}:single", reference]

    def pull(self, reference: str, into: Path) -> list[str]:
        return ["cp", "--from-plain-http", "--to-oci-layout", reference, f"{into}:single"]


class Regctl:
    """regctl."""

    name = "regctl"

    def __init__(self, client: Client, address: str) -> None:
        self.client, self.address = client, address
        client.run("registry", "set", "--tls=disabled", "--skip-check", address)

    def login(self, user: str, password: str) -> list[str]:
        return ["registry", "login", "--user", user, "--pass", password, self.address]

    def push(self, layout: Path, reference: str) -> list[str]:
        return ["image", "copy", f"ocidir://{layout}:single", reference]

    def pull(self, reference: str, into: Path) -> list[str]:
        return ["image", "copy", reference, f"ocidir://{into}:single"]


PROGRAMS = [
    pytest.param(kind, marks=pytest.mark.tools(kind.name), id=kind.name) for kind in (Crane, Skopeo, Oras, Regctl)
]
New = "Callable[[], Program]"


@pytest.fixture(params=PROGRAMS)
def new(request: pytest.FixtureRequest, new_client: Callable[[str], Client], address: str) -> Callable[[], Program]:
    """Makes a program on a machine that has never logged in."""
    kind = request.param

    def make() -> Program:
        made: Program = kind(new_client(kind.name), address)
        return made

    return make


def logged_in(program: Program, user: str) -> Program:
    program.client.run(*program.login(user, PASSWORDS[user]))
    return program


@pytest.fixture
def source(layout: Layout) -> Path:
    """A layout with one image, `single`."""
    made = layout.directory
    index = json.loads((made / "index.json").read_bytes())
    index["manifests"] = [tagged(made, "single")]
    (made / "index.json").write_text(json.dumps(index))
    return made


def test_a_user_pushes_and_pulls_and_a_stranger_pulls_what_is_public(
    new: Callable[[], Program], address: str, source: Path, tmp_path: Path
) -> None:
    alice = logged_in(new(), "alice")
    name = type(alice).__name__.lower()
    wanted = layout_content(source, "single")
    for repository in (f"team/{name}", f"public/{name}"):
        alice.client.run(*alice.push(source, f"{address}/{repository}:1"))
        assert seen(address, repository, "1", "alice").digest == tagged(source, "single")["digest"]
    alice.client.run(*alice.pull(f"{address}/team/{name}:1", tmp_path / "alice"))
    stranger = new()
    stranger.client.run(*stranger.pull(f"{address}/public/{name}:1", tmp_path / "stranger"))
    for directory in ("alice", "stranger"):
        assert wanted.items() <= layout_content(tmp_path / directory).items()


def test_what_a_caller_has_no_right_to_is_refused_at_once_whether_or_not_it_is_there(
    new: Callable[[], Program], address: str, source: Path, tmp_path: Path
) -> None:
    alice = logged_in(new(), "alice")
    name = type(alice).__name__.lower()
    alice.client.run(*alice.push(source, f"{address}/team/{name}-hidden:1"))
    stranger, bob, carol = new(), logged_in(new(), "bob"), logged_in(new(), "carol")
    for repository in (f"team/{name}-hidden", f"team/{name}-missing"):
        for program, said in ((stranger, "unauthorized"), (carol, "denied")):
            program.client.fails(*program.pull(f"{address}/{repository}:1", tmp_path / "none"), saying=said)
    bob.client.run(*bob.pull(f"{address}/team/{name}-hidden:1", tmp_path / "bob"))
    for program in (stranger, bob, carol):
        refused = program.client.execute(*program.push(source, f"{address}/team/{name}-hidden:2"))
        assert refused.returncode != 0
        assert re.search(rb"denied|unauthorized|40[13]", refused.stdout + refused.stderr, re.IGNORECASE), refused
        assert seen(address, f"team/{name}-hidden", "2", "alice").status == 404


def test_a_wrong_password_is_said_to_be_wrong(new: Callable[[], Program], address: str, tmp_path: Path) -> None:
    program = new()
    refused = program.client.execute(*program.login("alice", "wrong"))
    if isinstance(program, Crane):  # it asks at the next command
        refused = program.client.execute(*program.pull(f"{address}/public/any:1", tmp_path / "none"))
    assert refused.returncode != 0
    assert re.search(rb"unauthorized|invalid username/password", refused.stdout + refused.stderr, re.IGNORECASE), (
        refused
    )


def test_a_blob_of_another_repository_is_mounted_where_it_may_be_read_and_uploaded_where_not(
    new: Callable[[], Program], address: str, source: Path
) -> None:
    alice, carol = logged_in(new(), "alice"), logged_in(new(), "carol")
    name = type(alice).__name__.lower()
    carol.client.run(*carol.push(source, f"{address}/secret/{name}:1"))
    alice.client.run(*alice.push(source, f"{address}/team/{name}-one:1"))
    alice.client.run(*alice.push(source, f"{address}/team/{name}-two:1"))
    for repository in (f"team/{name}-one", f"team/{name}-two"):
        assert seen(address, repository, "1", "bob").status == 200
    assert seen(address, f"secret/{name}", "1", "alice").status in {401, 403, 404}


@pytest.mark.tools("helm")
def test_helm_logs_in_by_the_form_and_pushes_and_pulls_a_chart(
    new_client: Callable[[str], Client], address: str, tmp_path: Path
) -> None:
    helm, stranger = new_client("helm"), new_client("helm")
    helm.run("create", "chart")
    helm.run("package", "chart", "--version=1.0.0")
    login = ("registry", "login", "--plain-http", "--username=alice", address)
    helm.fails(*login, "--password=wrong", saying="unauthorized")
    helm.run(*login, f"--password={PASSWORDS['alice']}")
    for place in ("team", "public"):
        helm.run("push", "chart-1.0.0.tgz", f"oci://{address}/{place}/helm", "--plain-http")
    helm.run("pull", f"oci://{address}/team/helm/chart", "--version=1.0.0", "--plain-http", f"--destination={tmp_path}")
    stranger.run("pull", f"oci://{address}/public/helm/chart", "--version=1.0.0", "--plain-http")
    stranger.fails("pull", f"oci://{address}/team/helm/chart", "--version=1.0.0", "--plain-http", saying="unauthorized")
    assert (stranger.home / "chart-1.0.0.tgz").read_bytes() == (tmp_path / "chart-1.0.0.tgz").read_bytes()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerDaemon]:
    with DockerDaemon(tmp_path_factory.mktemp("d")) as running:
        yield running


@pytest.mark.tools("docker", "dockerd")
def test_docker_logs_in_and_keeps_the_password_and_no_token(
    daemon: DockerDaemon, guarded: Registry, tmp_path: Path
) -> None:
    docker, stranger = daemon.client(tmp_path / "docker"), daemon.client(tmp_path / "stranger")
    host = f"localhost:{guarded.port}"
    image = docker.run("import", "-", f"{host}/team/docker:1", stdin=b"\0" * 10240)
    stranger.fails("push", f"{host}/team/docker:1", saying="denied")
    docker.fails("login", "--username=alice", "--password=wrong", host, saying="unauthorized")
    docker.run("login", "--username=alice", "--password-stdin", host, stdin=PASSWORDS["alice"].encode())
    kept = json.loads((docker.home / ".docker/config.json").read_bytes())["auths"][host]
    assert kept == {"auth": b64encode(f"alice:{PASSWORDS['alice']}".encode()).decode()}
    docker.run("tag", image, f"{host}/public/docker:1")
    for repository in ("team/docker", "public/docker"):
        docker.run("push", f"{host}/{repository}:1")
    daemon.forget_images(docker)
    docker.run("pull", f"{host}/team/docker:1")
    daemon.forget_images(docker)
    stranger.run("pull", f"{host}/public/docker:1")
    daemon.forget_images(docker)
    stranger.fails("pull", f"{host}/team/docker:1", saying="denied")

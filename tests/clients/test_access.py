"""Clients of a registry with rules: what is public without a login, what is not with one, and clear refusals (check 1).

One registry for all of them, on local disk or as two replicas: ``tests/clients/guarded.py``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.clients.guarded import PASSWORDS, seen
from tests.clients.layouts import layout_content
from tests.clients.machines import Crane, Oras, Regctl, Skopeo, kinds, refused, succeeded
from tests.clients.stores import Buildah, Ctr, Podman

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.guarded import Requests
    from tests.clients.machines import Transporter
    from tests.support.servers import Registry

    New = Callable[[], Transporter]

pytestmark = [
    pytest.mark.clients,
    pytest.mark.replicas_too("the kind of store makes no difference, a second server may"),
]

KINDS = kinds(Crane, Skopeo, Oras, Regctl, Podman, Buildah, Ctr)
BLOBS = 3
"""A configuration and two layers: what is pushed before the manifest."""


@pytest.fixture
def address(guarded: Registry) -> str:
    return guarded.address


@pytest.fixture(params=KINDS)
def new(request: pytest.FixtureRequest, new_machine: Callable[[type[Transporter]], Transporter]) -> New:
    """Makes a machine that has never logged in."""
    kind: type[Transporter] = request.param
    return lambda: new_machine(kind)


def test_a_user_pushes_and_pulls_and_a_stranger_pulls_what_is_public(
    new: New, address: str, source: Path, tmp_path: Path
) -> None:
    alice = new().logged_in("alice")
    name = alice.tools[0]
    for repository in (f"team/{name}", f"public/{name}"):
        succeeded(alice.push(source, f"{address}/{repository}:1"))
    for machine, place in ((new().logged_in("alice"), "team"), (new(), "public")):
        succeeded(machine.pull(f"{address}/{place}/{name}:1", tmp_path / place))
        pulled = machine.pulled(f"{address}/{place}/{name}:1", tmp_path / place)
        assert seen(address, f"{place}/{name}", "1", "alice") == (200, pulled)
    if (tmp_path / "team").exists():  # as a layout, byte for byte
        assert layout_content(source, "single").items() <= layout_content(tmp_path / "team").items()


def test_what_a_caller_has_no_right_to_is_refused_at_once_whether_or_not_it_is_there(
    new: New, address: str, source: Path, tmp_path: Path
) -> None:
    alice, stranger = new().logged_in("alice"), new()
    bob, carol = new().logged_in("bob"), new().logged_in("carol")
    name = alice.tools[0]
    hidden, missing = f"team/{name}-hidden", f"team/{name}-missing"
    succeeded(alice.push(source, f"{address}/{hidden}:1"))
    with ThreadPoolExecutor() as pool:
        pulls = [
            (pool.submit(machine.pull, f"{address}/{repository}:1", tmp_path / f"{repository[5:]}-{said}"), said)
            for machine, said in ((stranger, "unauthorized|401|authorization"), (carol, "denied|403"))
            for repository in (hidden, missing)
        ]
        for pull, said in pulls:
            refused(pull.result(), said)
        pushes = [pool.submit(machine.push, source, f"{address}/{hidden}:2") for machine in (stranger, bob, carol)]
        for push in pushes:
            refused(push.result())
    assert seen(address, hidden, "2", "alice").status == 404
    succeeded(bob.pull(f"{address}/{hidden}:1", tmp_path / "bob"))


def test_a_wrong_password_is_said_to_be_wrong(new: New, address: str, tmp_path: Path) -> None:
    machine = new()
    done = machine.login("alice", "wrong")
    if not machine.asks_at_login:
        done = machine.pull(f"{address}/team/any:1", tmp_path / "none")
    refused(done, "unauthorized|invalid username/password|401|authorization")


@pytest.mark.parametrize("new", kinds(Crane, Oras, Ctr), indirect=True)
def test_a_caller_that_may_pull_alone_is_told_so_once(new: New, address: str, source: Path, requests: Requests) -> None:
    """Its token allows less than it asked for; another one would not allow more (check 6).

    The rest of them try again, or ask for mounts that are refused alike.
    """
    bob = new().logged_in("bob")
    repository = f"team/{bob.tools[0]}-partial"
    requests.forget()
    refused(bob.push(source, f"{address}/{repository}:1"))
    writes = requests.writes(repository)
    assert {(each.method, each.status) for each in writes} == {("POST", 403)}, requests.all()
    assert len(writes) <= BLOBS, requests.all()


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

"""Tokens that allow less than their user may do: the answer says what another needs, and clients get it (check 7).

The tokens are those of a service that is not the registry, as ``auth.token.external`` has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

from tests.auth.signing import ec, jwks
from tests.clients.guarded import Requests
from tests.clients.machines import Crane, Machine, Oras, Skopeo, kinds, succeeded
from tests.clients.narrow_tokens import ISSUER, SERVICE, USER, NarrowTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.machines import Transporter
    from tests.support.backends import Backend
    from tests.support.servers import Registry

M = TypeVar("M", bound=Machine)

pytestmark = [pytest.mark.clients, pytest.mark.local_storage("the kind of store makes no difference")]


@pytest.fixture(scope="module")
def tokens() -> Iterator[NarrowTokens]:
    with NarrowTokens().running() as service:
        yield service


@pytest.fixture(scope="module")
def registry(backend: Backend, tokens: NarrowTokens, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    directory = tmp_path_factory.mktemp("narrow")
    (directory / "keys").write_bytes(jwks(ec()))
    external = {"realm": tokens.realm, "issuer": ISSUER, "service": SERVICE, "keys_file": str(directory / "keys")}
    rule = {"who": [f"external:{USER}"], "repositories": ["team/**"], "actions": ["pull", "push", "delete"]}
    config: dict[str, dict[str, object]] = {
        "auth": {"token": {"external": external}},
        "access": {"rules": [rule]},
    }
    with backend.registry(directory / "registry", config) as server:
        yield server


@pytest.fixture
def machine(new_client: Callable[[str], Client], registry: Registry) -> Callable[[type[M]], M]:
    """Make a machine that has logged in."""
    return lambda kind: kind(new_client(kind.tools[0]), registry.address).logged_in(USER)


@pytest.mark.parametrize("kind", kinds(Crane, Oras))
def test_a_push_goes_on_with_the_token_that_it_is_told_to_need(
    kind: type[Transporter],
    machine: Callable[[type[Transporter]], Transporter],
    registry: Registry,
    tokens: NarrowTokens,
    source: Path,
) -> None:
    alice, repository, requests = machine(kind), f"team/{kind.tools[0]}", Requests(registry)
    tokens.narrow()
    succeeded(alice.push(source, f"{registry.address}/{repository}:1"))
    assert not tokens.is_narrow
    statuses = [each.status for each in requests.writes(repository)]
    assert 401 in statuses
    assert statuses[-1] == 201
    assert f"repository:{repository}:pull,push" in tokens.asked[1:]


@pytest.mark.tools("skopeo")
def test_a_deletion_by_skopeo_goes_on_with_the_token_that_it_is_told_to_need(
    machine: Callable[[type[Skopeo]], Skopeo], registry: Registry, tokens: NarrowTokens, source: Path
) -> None:
    """Only for requests without a body does it ask for another token, and then for that request alone."""
    alice, requests = machine(Skopeo), Requests(registry)
    reference = f"{registry.address}/team/skopeo:1"
    succeeded(alice.push(source, reference))
    tokens.narrow()
    succeeded(alice.client.execute("delete", "--tls-verify=false", f"docker://{reference}"))
    assert not tokens.is_narrow
    assert [each.status for each in requests.writes("team/skopeo") if each.method == "DELETE"] == [401, 202]
    assert "repository:team/skopeo:delete" in tokens.asked[1:]

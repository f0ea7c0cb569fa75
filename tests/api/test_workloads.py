"""Workloads of CI and clusters at a registry with rules: their token is a password, a Bearer token, or exchanged.

Checks 14, 15.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.api.http.small_body import FORM
from registry.api.token import EXCHANGE
from registry.auth.jwt import Jwt
from tests.api.service import Reply, Service, serving
from tests.auth.oidc.server import AUDIENCE, ProviderServer, provider_server
from tests.auth.signing import rsa, signed

RULES: list[dict[str, Any]] = [
    {
        "who": ["oidc:gitlab"],
        "repositories": ["{project_path}", "{project_path}/**"],
        "claims": {"ref_protected": "true"},
        "actions": ["push"],
    },
    {
        "who": ["oidc:github"],
        "repositories": ["app/**"],
        "claims": {"repository_id": "123456", "ref": ["refs/heads/main", "refs/tags/v*"]},
        "actions": ["push"],
    },
    {
        "who": ["oidc:cluster"],
        "repositories": ["team-a/**"],
        "claims": {"kubernetes.io/namespace": "team-a"},
        "actions": ["pull"],
    },
    {"who": ["authenticated"], "repositories": ["shared/**"], "actions": ["pull"]},
]
NAMES = {"github": "repository", "gitlab": "project_path", "cluster": "sub"}


class Place:
    """A registry that believes three providers, each on a port of its own."""

    def __init__(self, service: Service, providers: dict[str, ProviderServer]) -> None:
        self.service = service
        self.github, self.gitlab, self.cluster = (providers[name] for name in NAMES)

    def as_password(self, token: str, path: str, method: str = "POST") -> int:
        header = f"Basic {b64encode(f'any:{token}'.encode()).decode()}"
        return self.service.call(method, path, headers={"Authorization": header}).status

    def as_bearer(self, token: str, path: str, method: str = "POST") -> int:
        return self.service.call(method, path, headers={"Authorization": f"Bearer {token}"}).status

    def exchanged(self, token: str, path: str, method: str = "POST") -> int:
        repository = path.removeprefix("/v2/").partition("/blobs")[0].partition("/tags")[0]
        form = f"grant_type={EXCHANGE}&subject_token={token}&scope=repository:{repository}:pull,push"
        reply: Reply = self.service.call("POST", "/auth/token", form.encode(), {"Content-Type": FORM})
        return self.as_bearer(reply.json["token"], path, method) if reply.status == 200 else reply.status


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with provider_server() as github, provider_server() as gitlab, provider_server() as cluster:
        providers = {"github": github, "gitlab": gitlab, "cluster": cluster}
        oidc = [
            {"name": name, "issuer": server.issuer, "audiences": [AUDIENCE], "user": NAMES[name]}
            for name, server in providers.items()
        ]
        given: dict[str, Any] = {"auth": {"oidc": oidc}, "access": {"rules": RULES}}
        with serving(tmp_path_factory.mktemp("workloads"), given) as service:
            yield Place(service, providers)


ways = pytest.mark.parametrize("way", [Place.as_password, Place.as_bearer, Place.exchanged])
Way = Callable[..., int]


def uploads(repository: str) -> str:
    return f"/v2/{repository}/blobs/uploads/"


@ways
def test_a_job_pushes_where_its_claims_let_it(place: Place, way: Way) -> None:
    assert way(place, place.gitlab.gitlab(), uploads("team/app")) == 202
    assert way(place, place.gitlab.gitlab(), uploads("team/app/base")) == 202
    assert way(place, place.github.github(), uploads("app/x")) == 202
    assert way(place, place.github.github(ref="refs/tags/v1"), uploads("app/x")) == 202
    assert way(place, place.cluster.kubernetes(), "/v2/team-a/x/tags/list", "GET") == 404, "it may look"


@ways
@pytest.mark.parametrize("neighbour", ["team/app2", "team", "team/app2/x", "x/team/app", "evil/app"])
def test_a_job_has_no_right_to_its_neighbours(place: Place, way: Way, neighbour: str) -> None:
    assert way(place, place.gitlab.gitlab(), uploads(neighbour)) == 403
    assert way(place, place.gitlab.gitlab(), f"/v2/{neighbour}/tags/list", "GET") == 403


@ways
@pytest.mark.parametrize("project", ["Team/app", "**", "*", "", "..", "team/../secret", "/", "team/", "{project_path}"])
def test_a_claim_that_is_no_name_opens_nothing(place: Place, way: Way, project: str) -> None:
    token = place.gitlab.gitlab(project_path=project)
    for repository in ("team/app", "secret", "secret/app", "team"):
        assert way(place, token, uploads(repository)) in {401, 403}


@ways
def test_an_unprotected_branch_another_project_and_a_strangers_token_push_nothing(place: Place, way: Way) -> None:
    for token, repository in (
        (place.gitlab.gitlab(ref_protected=False), "team/app"),
        (place.github.github(ref="refs/heads/feature"), "app/x"),
        (place.github.github("evil/app", ref="refs/heads/main", environment=None), "evil/app"),
        (place.gitlab.token(project_path="team/app"), "team/app"),
        (place.cluster.kubernetes("team-b"), "team-a/x"),
        (place.cluster.gitlab(), "team/app"),
    ):
        assert way(place, token, uploads(repository)) in {401, 403}
    assert way(place, place.github.github(), "/v2/shared/x/tags/list", "GET") == 403, (
        "any account of a provider is a stranger"
    )


@ways
def test_tokens_that_prove_nothing(place: Place, way: Way) -> None:
    claims = dict(Jwt.parse(place.gitlab.gitlab()).claims)
    for token in (
        place.gitlab.gitlab(aud="elsewhere"),
        place.gitlab.gitlab(exp=1),
        signed(rsa(3), "RS256", claims, kid="rsa-0"),
        signed(rsa(3), "RS256", claims, kid="rsa-0", jwk=rsa(3).as_dict(private=False)),
        signed(rsa(), "RS256", claims | {"iss": "https://evil.example.org"}),
    ):
        assert way(place, token, uploads("team/app")) == 401


def test_a_provider_that_is_down_makes_no_credentials_wrong(tmp_path: Path) -> None:
    with provider_server() as server:
        provider = {"name": "ci", "issuer": server.issuer, "audiences": [AUDIENCE], "user": "project_path"}
        rule = {"who": ["oidc:ci"], "repositories": ["{project_path}"], "actions": ["push"]}
        given: dict[str, Any] = {"auth": {"oidc": [provider]}, "access": {"rules": [rule]}}
        with serving(tmp_path, given) as service:
            place = Place(service, dict.fromkeys(NAMES, server))
            server.is_up = False
            for way in (Place.as_password, Place.as_bearer, Place.exchanged):
                assert way(place, server.gitlab(), uploads("team/app")) == 503

"""Which endpoint a path and a method lead to, and that the table of routes is the specification's list of endpoints."""

from __future__ import annotations

from typing import cast

import pytest
from fastapi import APIRouter
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from registry.api.access import Action
from registry.api.http.operations import operation
from registry.api.http.routing import OciRoute
from registry.server.application import CHAPTERS

ROUTES = [cast("OciRoute", route) for chapter in CHAPTERS for route in chapter.router.routes]
UPLOAD = "0b1c2d3e-0000-4000-8000-000000000000"
SESSIONS = "/v2/{name:path}/blobs/uploads"
BLOB = "/v2/{name:path}/blobs/{digest}"
MANIFEST = "/v2/{name:path}/manifests/{reference}"
TAGS = "/v2/{name:path}/tags/list"
REFERRERS = "/v2/{name:path}/referrers/{digest}"

ENDPOINTS = [
    # The specification's identifier, method, template, the right that it needs.
    ("end-1", "GET", "/v2/", Action.LOGIN),
    ("end-2", "GET", BLOB, Action.PULL),
    ("end-2", "HEAD", BLOB, Action.PULL),
    ("end-3", "GET", MANIFEST, Action.PULL),
    ("end-3", "HEAD", MANIFEST, Action.PULL),
    ("end-4a, end-4b, end-4c, end-11", "POST", f"{SESSIONS}/", Action.PUSH),
    ("end-5", "PATCH", f"{SESSIONS}/{{upload}}", Action.PUSH),
    ("end-6", "PUT", f"{SESSIONS}/{{upload}}", Action.PUSH),
    ("end-7a, end-7b", "PUT", MANIFEST, Action.PUSH),
    ("end-8a, end-8b", "GET", TAGS, Action.PULL),
    ("end-9", "DELETE", MANIFEST, Action.DELETE),
    ("end-10", "DELETE", BLOB, Action.DELETE),
    ("end-12a, end-12b", "GET", REFERRERS, Action.PULL),
    ("end-13", "GET", f"{SESSIONS}/{{upload}}", Action.PUSH),
    ("end-14", "DELETE", f"{SESSIONS}/{{upload}}", Action.PUSH),
    # Not in the specification, or said there in another way.
    ("HEAD as GET (RFC 9110)", "HEAD", "/v2/", Action.LOGIN),
    ("HEAD as GET (RFC 9110)", "HEAD", TAGS, Action.PULL),
    ("HEAD as GET (RFC 9110)", "HEAD", REFERRERS, Action.PULL),
    ("HEAD as GET (RFC 9110)", "HEAD", f"{SESSIONS}/{{upload}}", Action.PUSH),
    ("without the slash", "GET", "/v2", Action.LOGIN),
    ("without the slash", "HEAD", "/v2", Action.LOGIN),
    ("without the slash", "POST", SESSIONS, Action.PUSH),
    ("catalog", "GET", "/v2/_catalog", Action.CATALOG),
    ("catalog", "HEAD", "/v2/_catalog", Action.CATALOG),
    ("token", "GET", "/auth/token", Action.NONE),
    ("token", "POST", "/auth/token", Action.NONE),
]


def find(path: str, method: str = "GET") -> tuple[str | None, dict[str, str]]:
    """The template and parameters of the first route that has both; None where there is none."""
    for route in ROUTES:
        match, scope = route.matches({"type": "http", "path": path, "method": method})
        if match is Match.FULL:
            return route.path, scope["path_params"]
    return None, {}


def test_the_routes_are_the_endpoints_of_the_specification() -> None:
    routes = sorted((method, route.path, route.action) for route in ROUTES for method in route.methods or ())
    assert routes == sorted((method, path, action) for _, method, path, action in ENDPOINTS)


def test_a_route_without_an_action_is_refused() -> None:
    async def endpoint(_request: Request) -> Response:
        return Response()

    router = APIRouter(route_class=OciRoute)
    with pytest.raises(ValueError, match="/v2/x names no action"):
        router.add_api_route("/v2/x", endpoint, response_model=None)
    router.add_api_route("/v2/x", endpoint, **operation(Action.PULL, answers=(200,)))


@pytest.mark.parametrize(
    ("method", "path", "template", "parameters"),
    [
        ("GET", "/v2/", "/v2/", {}),
        ("HEAD", "/v2", "/v2", {}),
        ("GET", "/v2/_catalog", "/v2/_catalog", {}),
        ("PUT", "/v2/a/manifests/1", MANIFEST, {"name": "a", "reference": "1"}),
        ("GET", "/v2/a/b/c/blobs/x", BLOB, {"name": "a/b/c", "digest": "x"}),
        ("POST", "/v2/a/blobs/uploads/", f"{SESSIONS}/", {"name": "a"}),
        ("POST", "/v2/a/blobs/uploads", SESSIONS, {"name": "a"}),
        ("PATCH", f"/v2/a/blobs/uploads/{UPLOAD}", f"{SESSIONS}/{{upload}}", {"name": "a", "upload": UPLOAD}),
        # Names may hold the words of the API.
        ("GET", "/v2/a/manifests/blobs/manifests/x", MANIFEST, {"name": "a/manifests/blobs", "reference": "x"}),
        ("GET", "/v2/a/blobs/uploads/blobs/x", BLOB, {"name": "a/blobs/uploads", "digest": "x"}),
        # No session has this path, so that it is a blob with a strange digest.
        ("GET", "/v2/a/blobs/uploads", BLOB, {"name": "a", "digest": "uploads"}),
        # What looks at the name refuses it, with the right code.
        ("GET", "/v2//manifests/x", MANIFEST, {"name": "", "reference": "x"}),
        ("GET", "/v2/a\nb/manifests/x", MANIFEST, {"name": "a\nb", "reference": "x"}),
    ],
)
def test_a_path_leads_to_an_endpoint(method: str, path: str, template: str, parameters: dict[str, str]) -> None:
    assert find(path, method) == (template, parameters)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/a",
        "/v2/a/",
        "/v2/a/tags",
        "/v2/a/tags/list/",
        "/v2/a/tags/list\n",
        "/v2/_catalog\n",
        "/v2/a/manifests/",
        "/v2/a/blobs/x/y",
        "/v3/",
        "/v2x",
    ],
)
def test_a_path_that_is_none_leads_nowhere(path: str) -> None:
    assert find(path) == (None, {})


@given(st.lists(st.sampled_from(["/", "v2", "a", "b\n", "blobs", "uploads", "manifests", "tags", "list", "referrers"])))
def test_a_path_has_the_parameters_that_the_expression_of_its_route_finds(parts: list[str]) -> None:
    for path in ("".join(parts), "/v2/" + "/".join(parts)):
        for route in ROUTES:
            found = route.path_regex.match(path)
            assert route.parameters(path) == (found and found.groupdict()), (route.path, path)

"""Which handler a path and a method lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from registry.api.http.routing import Route, Routes
from registry.server.application import CHAPTERS

if TYPE_CHECKING:
    from registry.api.http.routing import Found, Handler

ROUTES = Routes(route for chapter in CHAPTERS for route in chapter.routes)
UPLOAD = "0b1c2d3e-0000-4000-8000-000000000000"


def find(path: str, method: str = "GET") -> Found:
    """What the routes of the API say."""
    return ROUTES.find(path, method)


@pytest.mark.parametrize(
    ("method", "path", "template", "parameters"),
    [
        ("GET", "/v2/", "/v2/", {}),
        ("HEAD", "/v2", "/v2", {}),
        ("GET", "/v2/_catalog", "/v2/_catalog", {}),
        ("PUT", "/v2/a/manifests/1", "/v2/{name:path}/manifests/{reference}", {"name": "a", "reference": "1"}),
        ("GET", "/v2/a/b/c/blobs/x", "/v2/{name:path}/blobs/{digest}", {"name": "a/b/c", "digest": "x"}),
        ("POST", "/v2/a/blobs/uploads/", "/v2/{name:path}/blobs/uploads/", {"name": "a"}),
        ("POST", "/v2/a/blobs/uploads", "/v2/{name:path}/blobs/uploads", {"name": "a"}),
        (
            "PATCH",
            f"/v2/a/blobs/uploads/{UPLOAD}",
            "/v2/{name:path}/blobs/uploads/{upload}",
            {"name": "a", "upload": UPLOAD},
        ),
        # Names may hold the words of the API.
        (
            "GET",
            "/v2/a/manifests/blobs/manifests/x",
            "/v2/{name:path}/manifests/{reference}",
            {"name": "a/manifests/blobs", "reference": "x"},
        ),
        (
            "GET",
            "/v2/a/blobs/uploads/blobs/x",
            "/v2/{name:path}/blobs/{digest}",
            {"name": "a/blobs/uploads", "digest": "x"},
        ),
        # No upload is read there, so that it is a blob with a strange digest.
        ("GET", "/v2/a/blobs/uploads", "/v2/{name:path}/blobs/{digest}", {"name": "a", "digest": "uploads"}),
        # Refused by what looks at the name, with the right code.
        ("GET", "/v2//manifests/x", "/v2/{name:path}/manifests/{reference}", {"name": "", "reference": "x"}),
        ("GET", "/v2/a\nb/manifests/x", "/v2/{name:path}/manifests/{reference}", {"name": "a\nb", "reference": "x"}),
    ],
)
def test_a_path_leads_to_a_handler(method: str, path: str, template: str, parameters: dict[str, str]) -> None:
    found = find(path, method)
    assert found.handler is not None
    assert (found.template, found.parameters) == (template, parameters)


@pytest.mark.parametrize(
    "path", ["/v2/a", "/v2/a/", "/v2/a/tags", "/v2/a/tags/list/", "/v2/a/manifests/", "/v2/a/blobs/x/y", "/v3/", "/v2x"]
)
def test_a_path_that_is_none_leads_nowhere(path: str) -> None:
    assert find(path) == (None, None, {}, [])


def test_a_method_that_is_none_names_those_that_are() -> None:
    found = find("/v2/a/manifests/x", "POST")
    assert found.handler is None
    assert found.template == "/v2/{name:path}/manifests/{reference}"
    assert found.methods == ["DELETE", "GET", "HEAD", "PUT"]
    assert find(f"/v2/a/blobs/uploads/{UPLOAD}", "POST").methods == ["DELETE", "GET", "HEAD", "PATCH", "PUT"]


def test_of_two_routes_with_the_same_path_and_method_the_first_counts() -> None:
    handlers = [cast("Handler", object()) for _ in range(3)]
    routes = Routes(
        [
            Route("/{a}", handlers[0], ["GET"]),
            Route("/{a}", handlers[1], ["GET", "PUT"]),
            Route("/{b}", handlers[2], ["PUT"]),
        ]
    )
    assert routes.find("/x", "GET").handler is handlers[0]
    assert routes.find("/x", "PUT").handler is handlers[1]

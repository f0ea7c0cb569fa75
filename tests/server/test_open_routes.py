"""What a caller without credentials gets, for each route: a new one fails here until it is decided (check 21)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import bcrypt
import pytest

from registry.api.http.routing import OciRoute
from tests.api.service import Service, serving
from tests.support.payloads import Blob, image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPEN = {
    ("GET", "/livez"): 200,
    ("HEAD", "/livez"): 200,
    ("GET", "/readyz"): 200,
    ("HEAD", "/readyz"): 200,
    ("GET", "/metrics"): 200,
    ("HEAD", "/metrics"): 200,
    ("GET", "/auth/token"): 200,
    ("POST", "/auth/token"): 400,
    ("GET", "/auth/login"): 200,
    ("POST", "/auth/login"): 403,
    ("GET", "/auth/callback"): 400,
    ("POST", "/auth/logout"): 403,
}
"""The routes for every caller, with the status of a request without anything."""
PROTECTED = {("GET", "/metrics"), ("HEAD", "/metrics")}
"""Those that ``metrics.protect`` takes from them."""
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
VALUES = {"name": "team/app", "reference": "one", "digest": CONFIG.digest, "upload": "0f3a", "key": "0f3a"}


@pytest.fixture(params=[False, True], ids=["metrics open", "metrics protected"])
def is_protected(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def service(tmp_path: Path, is_protected: bool) -> Iterator[Service]:
    users = tmp_path / "htpasswd"
    users.write_text(f"alice:{bcrypt.hashpw(b'wonderland', bcrypt.gensalt(4)).decode()}\n")
    sections: dict[str, dict[str, object]] = {
        "auth": {"htpasswd": {"file": users}},
        "metrics": {"protect": is_protected},
    }
    with serving(tmp_path, sections) as found:
        yield found


def requests(service: Service) -> dict[tuple[str, str], str]:
    """Every method of every route, with a path of it."""
    application = cast("Any", service.observation)._application
    assert all(isinstance(route, OciRoute) for route in application.router.routes), "a route that decides nothing"
    return {
        (method, route.path): re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: VALUES[found[1]], route.path)
        for route in application.router.routes
        for method in route.methods
    }


def test_every_route_needs_credentials_but_for_those_that_are_open(service: Service, is_protected: bool) -> None:
    found = requests(service)
    assert OPEN.keys() <= found.keys()
    wanted = {key: status for key, status in OPEN.items() if not (is_protected and key in PROTECTED)}
    for key, path in found.items():
        reply = service.call(key[0], path)
        assert reply.status == wanted.get(key, 401), (key, reply)
        if reply.status == 401:
            assert reply.headers["www-authenticate"].startswith("Bearer realm="), key


def test_the_document_has_no_operation_beside_the_routes(service: Service) -> None:
    document = cast("Any", service.observation)._application.openapi()
    routes = {re.sub(r":\w+\}", "}", path) for _, path in requests(service)}
    assert document["paths"].keys() <= routes

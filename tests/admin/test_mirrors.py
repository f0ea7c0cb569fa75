"""Mirrors over HTTP: how upstreams do, for administrators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.admin import mirrors
from tests.admin.place import Place, basic
from tests.api.service import Service, serving

HUB = {"name": "hub", "prefix": "docker.io", "url": ["https://hub.example.org"]}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Without access rules: every caller may do everything."""
    with serving(tmp_path, mirrors=[HUB]) as found:
        yield found


def test_a_mirror_is_told_as_the_command_tells_it(service: Service) -> None:
    reply = service.call("GET", mirrors.MIRRORS)
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    (hub,) = reply.json["mirrors"]
    assert list(hub) == list(mirrors._PROPERTIES)
    assert (hub["name"], hub["upstreams"], hub["state"], hub["error"]) == ("hub", ["hub.example.org"], "ok", None)


def test_a_process_counts_for_one_caller_at_a_time(service: Service) -> None:
    with mirrors._turn:
        busy = service.call("GET", mirrors.MIRRORS)
    assert (busy.status, busy.headers["retry-after"]) == (503, "1")
    assert service.call("GET", mirrors.MIRRORS).status == 200


def test_they_are_shown_to_administrators_alone(place: Place) -> None:
    assert place.call("GET", mirrors.MIRRORS, basic("admin")).json == {"mirrors": []}
    assert place.call("GET", mirrors.MIRRORS, basic("bob")).status == 403
    assert place.call("GET", mirrors.MIRRORS, basic("carol")).status == 403
    assert place.call("GET", mirrors.MIRRORS, {}).status == 401

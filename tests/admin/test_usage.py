"""Usage over HTTP: each caller is told of what it may pull, and administrators what depends on others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import BoundedSemaphore

import pytest

from registry.admin import usage
from tests.admin.place import Place, basic
from tests.admin.test_retention import REPOSITORIES, push
from tests.api.service import Service, serving

OF_APP = "/api/v1/repositories/team/app/usage"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Without access rules: every caller may do everything."""
    with serving(tmp_path) as found:
        push(found, "v1", "v2")
        yield found


def test_a_repository_is_told_as_the_command_tells_it(service: Service) -> None:
    reply = service.call("GET", OF_APP)
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    assert list(reply.json) == ["repository", "logical", "stored", "own", "waiting", "quarantine", "dedupe", "frees"]
    assert reply.json["logical"] == reply.json["stored"] + 2, "both name the config"
    assert reply.json["own"] == reply.json["frees"] == 0, "each repository has the same"


def test_a_tag_or_a_manifest_is_told(service: Service) -> None:
    found = service.call("GET", f"{OF_APP}?tag=v1").json
    assert (found["repository"], found["tag"], found["manifests"], found["kept_by"]) == ("team/app", "v1", 1, [])
    again = service.call("GET", f"{OF_APP}?digest={found['digest']}").json
    assert again == found | {"tag": None}
    for query, status in (("tag=gone", 404), ("tag=-", 400), ("digest=sha256:0", 400)):
        assert service.call("GET", f"{OF_APP}?{query}").status == status
    assert service.call("GET", f"{OF_APP}?tag=v1&digest={found['digest']}").status == 400
    assert service.call("GET", "/api/v1/repositories/gone/app/usage").status == 404


def test_pages_end_with_a_repository(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    found, query = [], "?n=2"
    while query:
        reply = service.call("GET", usage.USAGE + query)
        found += [each["repository"] for each in reply.json["repositories"]]
        assert ("link" in reply.headers) == (reply.json["next"] is not None)
        query = f"?n=2&last={reply.json['next']}" if reply.json["next"] else ""
    assert found == REPOSITORIES
    only = service.call("GET", f"{usage.USAGE}?prefix=team").json["repositories"]
    assert [each["repository"] for each in only] == REPOSITORIES[1:]
    assert service.call("GET", f"{usage.USAGE}?prefix=No").status == 400
    assert service.call("GET", f"{usage.USAGE}?n=0").json == {"repositories": [], "next": None}
    monkeypatch.setattr(usage, "SECONDS", -1.0)
    assert service.call("GET", usage.USAGE).json["next"] == REPOSITORIES[0], "a page is bounded in time"


def test_not_all_are_counted_for_at_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_turns", BoundedSemaphore(1))
    with usage._turns:
        reply = service.call("GET", OF_APP)
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert service.call("GET", OF_APP).status == 200


def test_callers_are_told_of_what_they_may_pull(place: Place) -> None:
    push(place.service, "v1")
    everything = place.call("GET", usage.USAGE, basic("admin")).json["repositories"]
    assert [each["repository"] for each in everything] == REPOSITORIES
    assert all(each["own"] == each["frees"] == 0 for each in everything)
    bobs = place.call("GET", usage.USAGE, basic("bob")).json["repositories"]
    assert [each["repository"] for each in bobs] == REPOSITORIES[1:]
    assert all(each["own"] is each["frees"] is None for each in bobs), "it would say what other repositories have"
    assert place.call("GET", OF_APP, basic("bob")).json["frees"] is None
    assert place.call("GET", f"{OF_APP}?tag=v1", basic("bob")).json["frees"] is None
    for path in (usage.USAGE, OF_APP):
        assert place.call("GET", path, {}).status == 401
    for name in ("other/app", "gone/app"):
        assert place.call("GET", f"/api/v1/repositories/{name}/usage", basic("bob")).status == 403

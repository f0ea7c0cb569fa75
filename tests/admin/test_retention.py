"""Retention over HTTP: what the rules would do, by the settings and by a body; for administrators, each of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from registry.admin import retention, retention_page
from tests.admin.place import RULES, Place, basic
from tests.api.service import Service, serving
from tests.support.payloads import Blob, image

CONFIG = Blob(b"{}")
REPOSITORIES = ["other/app", "team/app", "team/lib"]
NEWEST: dict[str, Any] = {"name": "one", "repositories": ["**"], "tags": ["v*"], "keep": {"any": {"newest": 1}}}


def push(service: Service, *tags: str) -> None:
    """Push an image for each tag into every repository."""
    call = service.context.access.decide
    service.context.access.decide = lambda *_: None
    for name in REPOSITORIES:
        service.push_blob(name, CONFIG)
        for tag in tags:
            service.push(name, tag, image(CONFIG, [], annotations={"tag": tag}))
    service.context.access.decide = call


def removed(document: Any) -> list[str]:
    return [f"{each['repository']}:{each['tag']}" for each in document["tags"] if each["action"] == "remove"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Without access rules: every caller may do everything."""
    with serving(tmp_path, {"retention": {"rules": [NEWEST]}}) as found:
        push(found, "v1", "v2", "x")
        yield found


def test_a_report_is_by_the_rules_of_the_settings(service: Service) -> None:
    reply = service.call("GET", retention.REPORT)
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    assert removed(reply.json) == [f"{name}:v1" for name in REPOSITORIES]
    assert (reply.json["problems"], reply.json["next"], len(reply.json["tags"])) == ([], None, 9)
    keys = ["repository", "tag", "digest", "action", "rule", "because", "pushed_at", "pulled_at", "bytes"]
    assert list(reply.json["tags"][0]) == keys
    tags = service.call("GET", "/v2/team/app/tags/list").json["tags"]
    assert tags == ["v1", "v2", "x"], "nothing is changed"


@pytest.mark.parametrize("section", [{}, {"max_share": 1, "mode": "apply"}])
def test_a_preview_is_by_the_rules_of_the_body_and_stores_nothing(service: Service, section: dict[str, Any]) -> None:
    body = section | {"rules": [NEWEST | {"tags": ["x"], "keep": {"any": {"pushed_within": 0}}}]}
    reply = post(service, body)
    assert removed(reply.json) == [f"{name}:x" for name in REPOSITORIES]
    assert removed(service.call("GET", retention.REPORT).json) == [f"{name}:v1" for name in REPOSITORIES]
    assert service.call("GET", "/v2/team/app/tags/list").json["tags"] == ["v1", "v2", "x"]


def post(service: Service, body: object, query: str = "") -> Any:
    return service.call("POST", retention.PREVIEW + query, orjson.dumps(body), {"Content-Type": "application/json"})


def test_pages_end_with_a_repository(service: Service) -> None:
    found, query = [], "?n=2"
    for shown in (REPOSITORIES[:2], REPOSITORIES[2:]):
        for reply in (service.call("GET", retention.REPORT + query), post(service, {"rules": [NEWEST]}, query)):
            assert sorted({each["repository"] for each in reply.json["tags"]}) == shown
        found.append(reply.json["next"])
        query = f"?n=2&last={reply.json['next']}"
        assert ("link" in reply.headers) == (reply.json["next"] is not None)
    assert found == ["team/app", None]
    assert service.call("GET", f"{retention.REPORT}?n=0").json["tags"] == []
    assert service.call("GET", f"{retention.REPORT}?n=x").status == 400


def test_a_page_ends_after_some_seconds(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_page, "SECONDS", -1.0)
    found = service.call("GET", retention.REPORT).json
    assert ({each["repository"] for each in found["tags"]}, found["next"]) == ({"other/app"}, "other/app")


def pages(service: Service, path: str, query: str = "", body: object = None) -> list[Any]:
    """All pages, each found by the link of the one before."""
    found, target = [], f"{path}?{query}"
    while target:
        headers = {"Content-Type": "application/json"}
        reply = (
            service.call("GET", target) if body is None else service.call("POST", target, orjson.dumps(body), headers)
        )
        assert reply.status == 200
        found.append(reply.json)
        link = reply.headers.get("link", "")
        assert bool(link) == (reply.json["next"] is not None)
        target = link.partition("<")[2].partition(">")[0]
    return found


@pytest.mark.parametrize(("bound", "value"), [("MOST_TAGS", 1), ("MOST_TAGS", 2), ("MOST_TAGS", 4), ("MOST_BYTES", 1)])
@pytest.mark.parametrize("query", ["", "n=1", "repository=team/app", "repository=team/app&n=1"])
@pytest.mark.parametrize("share", [0, 1])
def test_a_page_may_end_with_any_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, query: str, share: int
) -> None:
    rules = [NEWEST, NEWEST | {"name": "two", "tags": ["x*"], "keep": {"any": {"newest": 2}}}]
    with serving(tmp_path, {"retention": {"rules": rules, "max_share": share}}) as service:
        push(service, *(f"v{number:02}" for number in range(12)), "x1", "x2", "x3", "y")
        whole = pages(service, retention.REPORT, query)
        monkeypatch.setattr(retention_page, bound, value)
        for body in (None, {"rules": rules, "max_share": share}):
            path = retention.REPORT if body is None else retention.PREVIEW
            found = pages(service, path, query, body)
            for name in ("tags", "problems"):
                assert [each for page in found for each in page[name]] == [
                    each for page in whole for each in page[name]
                ]
            assert max(len(page["tags"]) for page in found) == (value if bound == "MOST_TAGS" else 1)
            assert len(found) >= 16 // value
    assert sum(len(page["problems"]) for page in whole) == (0 if share else 1 if "repository" in query else 3)


def test_a_tag_where_a_page_has_ended_need_not_be_there_any_more(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_page, "MOST_TAGS", 1)
    for last, found in (
        ("team/app:v1", "team/app:v2"),
        ("team/app:v11", "team/app:v2"),
        ("team/app:zzz", "team/lib:v1"),
        ("team/app", "team/lib:v1"),
        ("team/absent:v1", "team/app:v1"),
    ):
        page = service.call("GET", f"{retention.REPORT}?last={last}").json
        assert (page["next"], removed(page) or [found]) == (found, [found]), last


@pytest.mark.parametrize("last", ["a%00b:v1", "../../x:v1", ":v1", "team/app:", "team/app:%00", "T:v1", "team/app:.x"])
def test_a_page_goes_on_where_one_can_have_ended(service: Service, last: str) -> None:
    reply = service.call("GET", f"{retention.REPORT}?last={last}")
    assert (reply.status, reply.json["errors"][0]["code"]) == (400, "PAGINATION_NUMBER_INVALID")


@pytest.mark.parametrize(
    ("name", "count"), [("team/lib", 3), ("absent/app", 0), ("No Name", 0), ("a%00b", 0), ("../../x", 0)]
)
def test_one_repository_may_be_asked_for(service: Service, name: str, count: int) -> None:
    found = service.call("GET", f"{retention.REPORT}?repository={name}".replace(" ", "%20")).json
    assert {each["repository"] for each in found["tags"]} == ({name} if count else set())
    assert (len(found["tags"]), found["next"]) == (count, None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"rules": [NEWEST | {"keep": {"any": {"newset": 1}}}]}, "did you mean rules.keep.any.newest?"),
        ({"rules": 3}, "rules: 3 is not a list"),
        ([], "no object"),
    ],
)
def test_a_mistake_in_the_rules_of_a_body_is_named(service: Service, body: object, said: str) -> None:
    reply = post(service, body)
    assert reply.status == 400
    assert said in reply.json["errors"][0]["message"]


def test_a_repository_that_is_left_alone_is_named(tmp_path: Path) -> None:
    with serving(tmp_path, {"retention": {"rules": [NEWEST], "max_share": 0}}) as service:
        push(service, *(f"v{number:02}" for number in range(12)))
        found = service.call("GET", retention.REPORT).json
        assert removed(found) == []
        assert [each.partition(":")[0] for each in found["problems"]] == REPOSITORIES


def test_an_administrator_is_told_of_its_own_repositories(place: Place) -> None:
    assert RULES[2] == {"who": ["carol"], "repositories": ["team/**"], "actions": ["admin"]}
    push(place.service, "v1", "v2")
    body = {"rules": [NEWEST]}
    for caller, names in ((basic("admin"), REPOSITORIES), (basic("carol"), REPOSITORIES[1:])):
        for reply in (place.call("GET", retention.REPORT, caller), place.call("POST", retention.PREVIEW, caller, body)):
            assert reply.status == 200
            assert sorted({each["repository"] for each in reply.json["tags"]}) == names
    only = place.call("GET", f"{retention.REPORT}?repository=other/app", basic("carol"))
    assert (only.status, only.json["tags"]) == (200, []), "as one that is not there"


def test_other_callers_are_told_nothing(place: Place) -> None:
    push(place.service, "v1")
    body = {"rules": [NEWEST]}
    for caller, status in (({}, 401), (basic("bob"), 403), (place.token("admin"), 200), (place.session("bob"), 403)):
        assert place.call("GET", retention.REPORT, caller).status == status
        assert place.call("POST", retention.PREVIEW, caller, body).status == status
    _, key = place.key(owner="admin", repositories=["team/**"], actions=["pull"])
    assert place.call("GET", retention.REPORT, key).json["tags"] == [], "a key without the right is bounded by it"
    session = place.session("admin", "https://elsewhere.example.org")
    assert place.call("POST", retention.PREVIEW, session, body).status == 403, "a page of another site"
    assert place.call("POST", retention.PREVIEW, place.session("admin"), body).status == 200

"""A purge over HTTP: for administrators of the repository; what was served from memory is gone at once."""

from __future__ import annotations

from registry.admin import purge
from tests.admin.place import Place, basic
from tests.admin.test_retention import push
from tests.support.payloads import Blob, image

OF_APP = purge.PURGE.replace("{name:path}", "team/app")
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [], annotations={"tag": "v1"})


def test_what_is_purged_is_gone_from_memory_and_disk(place: Place) -> None:
    push(place.service, "v1")
    path = f"/v2/team/app/manifests/{IMAGE.digest}"
    for _ in range(2):
        assert place.call("GET", path, basic("admin")).status == 200
        assert place.call("HEAD", f"/v2/team/app/blobs/{CONFIG.digest}", basic("admin")).status == 200
    reply = place.call("POST", OF_APP, basic("admin"), {"digest": IMAGE.digest})
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    assert (reply.json["manifests"], reply.json["removed"]) == ([IMAGE.digest], [])
    assert {each["digest"] for each in reply.json["kept"]} == {IMAGE.digest, CONFIG.digest}
    assert all(each["repositories"] == ["other/app", "team/lib"] for each in reply.json["kept"])
    assert place.call("GET", path, basic("admin")).status == 404
    assert place.call("HEAD", f"/v2/team/app/blobs/{CONFIG.digest}", basic("admin")).status == 404
    assert place.call("GET", path.replace("app", "lib"), basic("admin")).status == 200
    body = {"digest": IMAGE.digest, "everywhere": True}
    reply = place.call("POST", OF_APP.replace("app", "lib"), basic("admin"), body)
    assert (set(reply.json["removed"]), reply.json["kept"]) == ({IMAGE.digest, CONFIG.digest}, [])
    assert place.call("POST", OF_APP, basic("admin"), {"digest": IMAGE.digest}).status == 404


def test_it_is_for_administrators_of_the_repository(place: Place) -> None:
    push(place.service, "v1")
    body = {"digest": IMAGE.digest}
    assert place.call("POST", OF_APP, {}, body).status == 401
    assert place.call("POST", OF_APP, basic("bob"), body).status == 403, "who may push may not purge"
    assert place.call("POST", OF_APP, basic("carol"), {**body, "everywhere": True}).status == 403
    assert place.call("POST", purge.PURGE.replace("{name:path}", "other/app"), basic("carol"), body).status == 403
    session = place.session("admin", "https://elsewhere.example.org")
    assert place.call("POST", OF_APP, session, body).status == 403, "a page of another site"
    assert place.call("GET", f"/v2/team/app/manifests/{IMAGE.digest}", basic("bob")).status == 200
    reply = place.call("POST", OF_APP, basic("carol"), body)
    assert reply.status == 200
    assert all(each["repositories"] == [] for each in reply.json["kept"]), "not what it may not pull"


def test_a_dry_run_answers_the_same_and_changes_nothing(place: Place) -> None:
    push(place.service, "v1")
    body = {"digest": IMAGE.digest, "everywhere": True}
    assert place.call("POST", OF_APP, basic("carol"), {**body, "dry_run": True}).status == 403
    preview = place.call("POST", OF_APP, basic("admin"), {**body, "dry_run": True})
    assert preview.status == 200
    assert place.call("GET", f"/v2/team/app/manifests/{IMAGE.digest}", basic("bob")).status == 200
    assert place.call("POST", OF_APP, basic("admin"), body).json == preview.json


def test_a_mistake_is_named(place: Place) -> None:
    push(place.service, "v1")
    for body in (
        {},
        {"digest": 3},
        {"digest": IMAGE.digest, "dry_run": "yes"},
        {"digest": IMAGE.digest, "everywhere": 1},
        {"digest": IMAGE.digest, "x": 1},
    ):
        assert place.call("POST", OF_APP, basic("admin"), body).status == 400
    assert place.call("POST", OF_APP, basic("admin"), {"digest": "sha256:0"}).status == 400
    reply = place.call("POST", OF_APP, basic("admin"), {"digest": CONFIG.digest})
    assert (reply.status, reply.code) == (405, "UNSUPPORTED")
    assert IMAGE.digest in reply.json["errors"][0]["message"]

"""What machines of operators ask; ``tests/server/test_start.py`` has the probes of a server that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tests.api.service import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.service import Service


def uploads_open(service: Service) -> float:
    """What a scrape says."""
    text = service.call("GET", "/metrics").body.decode()
    return float(next(line for line in text.splitlines() if line.startswith("registry_uploads_open ")).split()[1])


def test_upload_sessions_are_counted_once_in_some_seconds_however_often_they_are_asked_for(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        process = cast("Any", service.observation)._application.state.metrics
        service.begin("app")
        process.uploads_due = 0
        assert uploads_open(service) == 1
        service.begin("app")
        assert uploads_open(service) == 1
        process.uploads_due = 0
        assert uploads_open(service) == 2


def test_a_file_of_users_that_is_wrong_is_named_and_stops_nothing(tmp_path: Path) -> None:
    path, good = tmp_path / "htpasswd", "alice:$2b$04$" + "a" * 53 + "\n"
    path.write_text(good)
    with serving(tmp_path, {"auth": {"htpasswd": {"file": path}}}) as service:
        authentication = service.context.authentication
        assert authentication is not None
        for document, problems in (("alice:secret\n", ["auth.htpasswd"]), (good + "# repaired\n", [])):
            path.write_text(document)
            authentication.directory.look()
            reply = service.call("GET", "/readyz")
            assert (reply.status, reply.json) == (200, {"status": "ok", "problems": problems})

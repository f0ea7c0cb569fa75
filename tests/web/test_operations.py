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

"""``registry mirror list``: what it prints of mirrors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry.cli.main import run
from registry.cli.output import ExitCode
from registry.config.settings import Settings
from registry.database.mirrors import mirror_states
from registry.images.registry import Registry
from registry.mirror.patient_upstream import configuration_of

MIRRORS = [
    {"name": "hub", "prefix": "docker.io", "url": ["https://hub.example.org", "https://second.example.org:5000"]},
    {"name": "archive", "prefix": "archive", "url": ["https://archive.example.org"], "offline": True},
]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"mirrors": MIRRORS}))
    return Settings.model_validate({"mirrors": MIRRORS})


def test_each_mirror_is_listed_with_how_its_upstream_does(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry.open(settings)
    with registry.backends.database.transaction() as connection:
        mirror_states.begin(connection, "hub", configuration_of(settings.mirrors[0]))
        mirror_states.set_remaining(connection, "hub", 1234)
        mirror_states.pause(connection, "hub", seconds=600, error="hub.example.org wants fewer requests: status 429")
    registry.close()
    assert run(["mirror", "list", "--config", "config.json"]) == ExitCode.DONE
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("hub: docker.io/ from hub.example.org, second.example.org:5000: paused, asked again in ")
    assert shown[0].endswith(" s, 1,234 requests left")
    assert shown[1] == "  0 repositories, 0 tags, 0 bytes"
    assert shown[2].startswith("  last error, 20")
    assert shown[2].endswith("+00:00: hub.example.org wants fewer requests: status 429")
    assert shown[3:] == ["archive: archive/ from archive.example.org: offline", "  0 repositories, 0 tags, 0 bytes"]
    assert run(["mirror", "list", "--config", "config.json", "--json"]) == ExitCode.DONE
    hub, archive = json.loads(capsys.readouterr().out)["mirrors"]
    assert (hub["name"], hub["state"], hub["remaining"], hub["upstreams"][0]) == (
        "hub",
        "paused",
        1234,
        "hub.example.org",
    )
    assert 500 < hub["asked_in"] <= 600
    assert hub["error"]["message"] == "hub.example.org wants fewer requests: status 429"
    assert (archive["state"], archive["error"], archive["fetches"]) == ("offline", None, 0)


def test_without_mirrors_there_is_nothing_to_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["mirror", "list"]) == ExitCode.DONE
    assert capsys.readouterr().out == "No mirror is configured.\n"
    assert run(["mirror", "list", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == {"mirrors": []}

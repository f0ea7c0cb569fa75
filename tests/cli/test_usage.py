"""``registry usage``: what it prints of everything, of a prefix, of a repository and of a tag; and its mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.cli import usage
from registry.cli.main import run
from registry.cli.output import ExitCode
from registry.config.settings import Settings
from registry.images.registry import Registry
from tests.support.registry_world import NAME, push_image

OTHER = "other/app"


@pytest.fixture
def sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The bytes of an image that both repositories have, and of one that NAME has alone."""
    monkeypatch.chdir(tmp_path)
    registry = Registry.open(Settings())
    shared = push_image(registry, "shared", "v1")
    push_image(registry, "shared", "v1", name=OTHER)
    own = push_image(registry, "own", "v2", "v3")
    registry.fold_waiting()
    registry.close()
    first, second = (sum(len(each.data) for each in (made.manifest, made.config, made.layer)) for made in (shared, own))
    return first, second


def told(capsys: pytest.CaptureFixture[str], *options: str) -> Any:
    assert run(["usage", *options, "--json"]) == ExitCode.DONE
    return json.loads(capsys.readouterr().out)


def figures(logical: int, own: int) -> dict[str, Any]:
    return {
        "logical": logical,
        "stored": logical,
        "own": own,
        "waiting": {"unreferenced": 0, "doomed": 0, "trash": 0},
        "quarantine": 0,
        "dedupe": 1.0,
        "frees": own,
    }


def test_the_document_of_everything(sizes: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    shared, own = sizes
    found = told(capsys)
    assert found["repositories"] == [
        {"repository": OTHER, **figures(shared, 0)},
        {"repository": NAME, **figures(shared + own, own)},
    ]
    total = figures(2 * shared + own, shared + own)
    total |= {"stored": shared + own, "dedupe": round((2 * shared + own) / (shared + own), 3)}
    assert found["total"] == {"repositories": 2, **total}


def test_the_document_of_a_prefix(sizes: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    shared, own = sizes
    found = told(capsys, "team/**")
    assert [each["repository"] for each in found["repositories"]] == [NAME]
    assert found["total"] == {"repositories": 1, **figures(shared + own, own)}
    empty = told(capsys, "none/**")
    assert empty["repositories"] == []
    assert empty["total"] == {"repositories": 0, **figures(0, 0), "dedupe": None}


def test_the_document_of_a_repository_and_of_a_tag(sizes: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    shared, own = sizes
    assert told(capsys, NAME) == {"repository": NAME, **figures(shared + own, own)}
    found = told(capsys, f"{NAME}:v1")
    assert (found["bytes"], found["frees"], found["kept_by"]) == (shared, 0, [])
    found = told(capsys, f"{NAME}:v2")
    assert (found["bytes"], found["frees"], found["kept_by"]) == (own, 0, ["v3"])
    found = told(capsys, f"{NAME}@{found['digest']}")
    assert (found["tag"], found["bytes"], found["frees"], found["manifests"]) == (None, own, own, 1)


def test_what_a_person_reads(sizes: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    shared, own = sizes
    assert run(["usage"]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [*usage.COLUMNS, "repository"]
    assert [line.split()[-1] for line in lines[1:3]] == [OTHER, NAME]
    assert lines[3].endswith("all 2 repositories together")
    assert run(["usage", NAME]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert f"frees         {own} bytes" in said
    assert f"stored        {shared + own} bytes, dedupe 1.0" in said
    assert run(["usage", f"{NAME}:v2"]) == ExitCode.DONE
    assert "kept by       v3" in capsys.readouterr().out


@pytest.mark.parametrize("scope", ["gone/app", f"{NAME}:gone", "Team", "team/*"])
def test_a_mistake_is_one_of_usage(sizes: tuple[int, int], capsys: pytest.CaptureFixture[str], scope: str) -> None:
    assert sizes
    assert run(["usage", scope]) == ExitCode.USAGE
    assert capsys.readouterr().out == ""

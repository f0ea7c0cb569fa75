"""``registry retention``: what it prints, what it does, its exit codes; and what ``config check`` says of rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from registry.cli.main import run
from registry.cli.output import ExitCode
from registry.config.settings import Settings
from registry.images.registry import Registry
from tests.support.registry_world import NAME, push_image, tags

ALL: dict[str, Any] = {"name": "everything", "repositories": ["**"], "tags": ["*"], "keep": {"any": {"newest": 3}}}
PREVIEWS: dict[str, Any] = ALL | {"name": "previews", "tags": ["pr-*"]}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in which the storage is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def opened() -> Iterator[Registry]:
    """The registry of the working directory."""
    found = Registry.open(Settings())
    yield found
    found.close()


@pytest.fixture
def pushed(directory: Path) -> list[str]:
    """Twelve tags, each of an image of its own, the newest last."""
    names = [f"v{number:02}" for number in range(12)]
    with opened() as registry:
        for name in names:
            push_image(registry, name, name)
        registry.fold_waiting()
    return names


def left() -> list[str]:
    with opened() as registry:
        return tags(registry)


def configure(directory: Path, **section: Any) -> str:
    path = directory / "config.json"
    path.write_text(json.dumps({"retention": section}))
    return str(path)


def test_a_check_names_rules_that_decide_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configure(directory, rules=[ALL, PREVIEWS])
    assert run(["config", "check", "--config", config, "--json"]) == ExitCode.DONE
    said = "retention.rules.1 (previews) never decides: everything before it matches all it would"
    assert said in json.loads(capsys.readouterr().out)["notes"]


def test_a_mistake_in_a_rule_is_one_of_the_configuration(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configure(directory, rules=[ALL | {"keep": {"any": {"newst": 3}}}])
    assert run(["config", "check", "--config", config]) == ExitCode.USAGE
    assert "did you mean retention.rules.keep.any.newest?" in capsys.readouterr().err


def test_a_report_says_of_each_tag_what_becomes_of_it_and_why(
    directory: Path, pushed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(directory, rules=[ALL | {"keep": {"any": {"newest": 6}}}])
    assert run(["retention", "--config", config]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"remove {NAME}:v00 (everything): 11 are newer, of which 6 stay"
    assert lines[11] == f"keep   {NAME}:v11 (everything): it is among the newest 6"
    assert lines[12:] == ["kept: 6", "would be removed: 6"]
    assert left() == pushed


def test_the_document_has_every_tag(directory: Path, pushed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    config = configure(directory, rules=[ALL | {"tags": ["v0*"], "keep": {"any": {"newest": 5}}}])
    assert run(["retention", "--config", config, "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    keys = ["repository", "tag", "digest", "action", "rule", "because", "pushed_at", "pulled_at", "bytes"]
    assert all(list(entry) == keys for entry in found)
    assert [entry["tag"] for entry in found] == pushed
    assert [entry["tag"] for entry in found if entry["action"] == "remove"] == pushed[:5]
    assert found[0]["rule"] == "everything"
    assert found[11] | {"because": ""} == found[11] | {"rule": None, "action": "keep", "pulled_at": None, "because": ""}


def test_without_tags_the_document_is_an_empty_list(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["retention", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("mode", "options", "removes"),
    [
        ("report", [], False),
        ("report", ["--apply"], True),
        ("apply", [], True),
        ("apply", ["--dry-run"], False),
        ("apply", ["--rules", "rules.json"], False),
        ("apply", ["--rules", "rules.json", "--apply"], True),
    ],
)
def test_what_is_removed_by_which_option(
    directory: Path,
    pushed: list[str],
    capsys: pytest.CaptureFixture[str],
    mode: str,
    options: list[str],
    removes: bool,
) -> None:
    rules = [ALL | {"keep": {"any": {"newest": 9}}}]
    (directory / "rules.json").write_text(json.dumps({"rules": rules}))
    config = configure(directory, rules=[] if "--rules" in options else rules, mode=mode)
    assert run(["retention", "--config", config, *options]) == ExitCode.DONE
    assert f"{'removed' if removes else 'would be removed'}: 3" in capsys.readouterr().out.splitlines()
    assert left() == (pushed[3:] if removes else pushed)


def test_too_much_is_left_alone_unless_its_repository_is_named(
    directory: Path, pushed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(directory, rules=[ALL | {"keep": {"any": {"newest": 1}}}], mode="apply")
    for options in ([], ["--json"], ["--force", "other/app"]):
        assert run(["retention", "--config", config, *options]) == ExitCode.PROBLEMS
        said = capsys.readouterr().err
        assert f"registry: {NAME}: 11 of 12 tags would go, more than the share that retention.max_share allows" in said
        assert left() == pushed
    assert run(["retention", "--config", config, "--force", NAME]) == ExitCode.DONE
    assert left() == pushed[-1:]


def test_a_file_of_rules_is_a_whole_section_or_rules_alone(
    directory: Path, pushed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory / "rules.json"
    for section in ({"max_share": 1}, {"# why": "a trial", "max_share": 1, "mode": "apply"}):
        path.write_text(json.dumps(section | {"rules": [ALL | {"keep": {"any": {"newest": 1}}}]}))
        assert run(["retention", "--rules", str(path)]) == ExitCode.DONE
        assert "would be removed: 11" in capsys.readouterr().out
        assert left() == pushed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"rules": [{"name": "a"}]}', "rules.0.repositories"),
        ('{"rules": [], "max_shar": 1}', "did you mean max_share?"),
        ("{", "rules.json"),
    ],
)
def test_a_mistake_in_a_file_of_rules_is_one_of_the_configuration(
    directory: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    Path("rules.json").write_text(text)
    assert run(["retention", "--rules", "rules.json"]) == ExitCode.USAGE
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--dry-run", "--apply"], ["--force", "No/Name"], ["--rules", "absent.json"]])
def test_what_makes_no_sense_is_a_mistake_of_usage(directory: Path, options: list[str]) -> None:
    assert run(["retention", *options]) == ExitCode.USAGE


def test_the_audit_log_has_each_tag_that_went(
    directory: Path, pushed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory / "config.json"
    retention = {"rules": [ALL | {"keep": {"any": {"newest": 11}}}]}
    path.write_text(json.dumps({"retention": retention, "log": {"audit": {"file": "audit.log"}}}))
    assert run(["retention", "--config", str(path), "--dry-run"]) == ExitCode.DONE
    assert not Path("audit.log").exists()
    assert run(["retention", "--config", str(path), "--apply"]) == ExitCode.DONE
    [line] = map(json.loads, Path("audit.log").read_text().splitlines())
    assert line.pop("digest").startswith("sha256:")
    assert line.pop("who")["kind"] == "operator"
    assert line.pop("time")
    wanted = {"logger": "audit", "event": "untag", "repository": NAME, "tags": ["v00"], "rule": "everything"}
    assert line == wanted

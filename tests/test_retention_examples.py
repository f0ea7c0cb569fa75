"""Each example of docs/retention.md is a configuration that the registry takes, whose rules each decide something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from registry.config.settings import load_settings
from registry.maintenance.retention.decision import REMOVE
from registry.maintenance.retention.review import review
from registry.maintenance.retention.rules import Rules
from tests.maintenance.retention.cases import ALWAYS_COUNTED, decide, tagged

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "retention.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_a_configuration_that_is_taken(tmp_path: Path, example: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(example)
    retention = load_settings(path).retention
    assert retention.rules
    assert list(review(retention)) == []


def removed(tmp_path: Path, number: int, *tags: tuple[str, float, float | None]) -> list[str]:
    """The tags of ``team/app``, set and pulled so many days ago, that the rules of an example remove."""
    path = tmp_path / "config.json"
    path.write_text(EXAMPLES[number])
    rules = Rules(load_settings(path).retention.rules).of("team/app")
    found = [tagged(tag, f"sha256:{tag}", pushed, pulled) for tag, pushed, pulled in tags]
    return [each.tagged.tag for each in decide(found, rules, ALWAYS_COUNTED, lambda _: False) if each.action == REMOVE]


def test_the_first_example_does_what_the_page_says(tmp_path: Path) -> None:
    previews = [(f"pr-{number}", 100.0 - number, None) for number in range(12)]
    stay = [("v1", 900.0, None), ("latest", 900.0, None), ("main", 900.0, None), ("nightly-1-hold", 900.0, None)]
    nightly = [("nightly-2", 70.0, 61.0), ("nightly-3", 70.0, 59.0)]
    assert removed(tmp_path, 0, *previews, *stay, *nightly) == ["pr-0", "pr-1", "nightly-2"]


def test_the_example_for_previews_keeps_what_was_pushed_or_pulled_lately(tmp_path: Path) -> None:
    assert removed(tmp_path, 1, ("pr-1", 40.0, 3.0), ("pr-2", 3.0, None), ("pr-3", 40.0, 39.0)) == ["pr-3"]


def test_the_example_for_branches_keeps_the_newest_builds_of_each(tmp_path: Path) -> None:
    builds = [(f"{branch}-{number}", 10.0 - number, None) for branch in ("main", "dev") for number in range(7)]
    assert removed(tmp_path, 2, *builds, ("v1", 99.0, None)) == ["main-0", "main-1", "dev-0", "dev-1", "dev-2", "dev-3"]


def test_the_example_for_all_tags_spares_releases(tmp_path: Path) -> None:
    tags = [("v1.0.0", 999.0, None), ("stable", 999.0, 1.0), ("old", 999.0, 200.0), ("new", 1.0, None)]
    assert removed(tmp_path, 3, *tags) == ["old"]

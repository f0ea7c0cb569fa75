"""Each example of docs/access.md is a configuration that the registry takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from registry.config.access_check import check_access
from registry.config.settings import load_settings

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "access.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 7


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_a_configuration_that_is_taken(tmp_path: Path, example: str) -> None:
    (tmp_path / "htpasswd").touch()
    for name in ("tls.crt", "tls.key", "client-ca.crt", "client-ca.crl"):
        (tmp_path / name).touch()
    path = tmp_path / "config.json"
    path.write_text(example.replace("/etc/registry", str(tmp_path)))
    assert json.loads(path.read_text())
    assert check_access(load_settings(path)) == []

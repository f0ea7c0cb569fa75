"""Files that cannot be read, and in which file or variable a mistake is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.config.file import ConfigError, ConfigProblem, Sources, read_file
from registry.config.settings import load_settings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{\n  "http": {\n    port: 1}}', "line 3, column 5"),
        ("", "is empty; {} is the least"),
        (" \n", "is empty"),
        ("http:\n  port: 5000\n", "looks like YAML; the file is JSON"),
        ("# ours\nversion: 0.1\n", "looks like YAML"),
        ("---\nhttp: {}\n", "looks like YAML"),
        ("[http]\nport = 5000\n", "looks like TOML"),
        ('{\n// why\n"http": {}}', "line 2, column 1: JSON has no comments; keys that begin with #"),
        ('{"http": {}, # why\n}', "JSON has no comments"),
        ('{"http": {"port": 1,}}', "a comma stands before the end"),
        ("{'http': {}}", "text stands in double quotes"),
        ('{"storage": {"fsync": True}}', "the words are true, false and null"),
        ('{"http": {"port": ' + "1" * 5000 + "}}", "without end"),
        ("[" * 100_000, "without end"),
        ("[1]", "one JSON object"),
        ('{"http": {"port": 1, "port": 2}}', "'port' twice"),
        ('{"http": NaN}', "http"),
    ],
)
def test_a_file_that_is_no_json_object_says_where(write: Any, content: str, message: str) -> None:
    path = write(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert message in str(caught.value)


def test_a_file_may_begin_with_a_byte_order_mark(write: Any) -> None:
    assert load_settings(write('\ufeff{"http": {"port": 1}}')).http.port == 1


def test_a_file_without_end_is_not_read_into_memory() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: is larger than 16 MiB"):
        load_settings(Path("/dev/zero"))


def test_a_mistake_says_in_which_file_it_is_and_several_say_it_once(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write({"http": {"port": 0.5, "tls": {"certificate": "/etc/hostname"}}, "storage": {"fsynk": 1}, "log": 3})
    monkeypatch.setenv("REGISTRY_GC__LEASE", "never")
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    sources = {problem.key: problem.source for problem in caught.value.problems}
    assert sources == {
        "http.port": str(path), "http.tls.key": str(path), "storage.fsynk": str(path), "log": str(path),
        "gc.lease": "REGISTRY_GC__LEASE",
    }  # fmt: skip
    assert str(caught.value).count(str(path)) in {1, 2}  # twice where the variable stands between them


def test_what_the_machine_lacks_has_the_source_of_its_key(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write({"storage": {"root_directory": "/x"}})
    sources = Sources({"REGISTRY_STORAGE__S3__BUCKET": "b", "REGISTRY_HTTP__PORT": "5"}, path, read_file(path))
    keys = ("storage.root_directory", "http.port", "storage.s3", "database.url")
    error = ConfigError([ConfigProblem(key, "is wrong", "") for key in keys]).located(sources)
    assert [problem.source for problem in error.problems] == [str(path), "REGISTRY_HTTP__PORT", "", ""]


def test_a_file_that_is_not_utf8_or_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'{"\xff": 1}')
    with pytest.raises(ConfigError, match="latin: is not UTF-8: byte 2"):
        load_settings(tmp_path / "latin")
    with pytest.raises(ConfigError, match="absent: cannot be read: No such file"):
        load_settings(tmp_path / "absent")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_settings(tmp_path)

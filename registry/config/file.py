"""Configuration file: reading it and the environment, and where a setting was written."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

ENVIRONMENT_PREFIX = "REGISTRY_"
DELIMITER = "__"
COMMENT = "#"
MAX_BYTES = 16 << 20
"""Bytes of the largest file that is read; a file written by hand is smaller."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One mistake in the configuration."""

    key: str
    """Dotted, ``storage.fsync``; empty if it concerns the file as a whole."""
    message: str
    """What is wrong and what would be right."""
    source: str
    """The file, or the environment variable."""


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` has every mistake, not only the first."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        super().__init__("\n".join(_lines(problems)))
        self.problems = problems

    def located(self, sources: Sources) -> ConfigError:
        """The same, but a problem without a source gets that of its key."""
        return ConfigError(
            [
                problem if problem.source else replace(problem, source=sources.of(problem.key.split("."), inside=False))
                for problem in self.problems
            ]
        )

    def document(self) -> dict[str, object]:
        """The same as a JSON value."""
        return {"error": "configuration", "problems": [asdict(problem) for problem in self.problems]}


def _lines(problems: list[ConfigProblem]) -> Iterator[str]:
    """One for each; what follows on a mistake in a file is in the same file, unless it says something else."""
    before = ""
    for problem in problems:
        source = (
            "" if problem.source == before and not problem.source.startswith(ENVIRONMENT_PREFIX) else problem.source
        )
        before = problem.source
        where = f"{problem.key} ({source})" if problem.key and source else problem.key or problem.source
        yield f"{where}: {problem.message}"


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of settings: the environment, and the file with this document."""

    environment: Mapping[str, str]
    path: Path | None = None
    document: Mapping[str, Any] = field(default_factory=dict)

    def of(self, parts: Sequence[str], *, inside: bool = True) -> str:
        """The variable or the file that has this key; empty for a default.

        With ``inside`` it may also be a variable for a key inside this one.
        """
        for name, path, _value in _variables(self.environment):
            if _overlap(path, parts) and (inside or len(path) <= len(parts)):
                return name
        return str(self.path) if _has(self.document, parts) else ""


def _overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether one of the two keys is the other or lies inside it."""
    return all(left == right for left, right in zip(one, other, strict=False))


def _has(value: object, parts: Sequence[str]) -> bool:
    """Whether the document has the key, or a value in the place of a section that would have it."""
    for part in parts:
        if not isinstance(value, dict):
            return True
        if part not in value:
            return False
        value = value[part]
    return True


# ---- the file


def read_file(path: Path) -> dict[str, Any]:
    """The JSON object in the file without its comments (keys that begin with ``#``). Raises ConfigError."""
    text = _read_text(path)
    try:
        document = json.loads(text, object_pairs_hook=_object)
        bad = _impossible(document)
    except json.JSONDecodeError as error:
        raise _file_error(path, _what_it_is(error) or _where_it_is_wrong(error)) from None
    except _DuplicateKeyError as error:
        raise _file_error(path, f"has the key {error.args[0]!r} twice in one object; remove one") from None
    except (ValueError, RecursionError):
        raise _file_error(path, "has objects inside each other, or digits of a number, without end") from None
    if bad is not None:
        raise ConfigError([ConfigProblem(bad, "has a character that no name and no path can hold", str(path))])
    if not isinstance(document, dict):
        raise _file_error(path, 'must hold one JSON object, such as {"http": {"port": 5000}}')
    return document


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _file_error(path, f"cannot be read: {error.strerror}; check the path that --config names") from None
    if len(content) > MAX_BYTES:
        raise _file_error(path, f"is larger than {MAX_BYTES >> 20} MiB; check the path that --config names")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _file_error(path, f"is not UTF-8: byte {error.start} is not valid") from None


def _impossible(value: object, key: str = "") -> str | None:
    """The key of the first text with a NUL or half of a pair of surrogates, which JSON can write; None if none has."""
    if isinstance(value, str):
        return key if re.search("[\0\ud800-\udfff]", value) else None
    inner: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    found = (_impossible(part, f"{key}.{name}" if key else str(name)) for name, part in inner)
    return next((bad for bad in found if bad is not None), None)


def _what_it_is(error: json.JSONDecodeError) -> str | None:
    """A guess at the format that was written instead of JSON; None if it looks like JSON with a mistake."""
    text = error.doc.strip()
    if not text:
        return "is empty; {} is the least"
    first_lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")][:2]
    if text.startswith("---") or any(re.match(r"[\w.-]+:(\s|$)", line) for line in first_lines):
        return 'looks like YAML; the file is JSON, such as {"http": {"port": 5000}}'
    if any(re.match(r"\[\w[\w.]*\]\s*$|\w[\w.]*\s*=", line) for line in first_lines):
        return 'looks like TOML; the file is JSON, such as {"http": {"port": 5000}}'
    return None


def _where_it_is_wrong(error: json.JSONDecodeError) -> str:
    before, rest = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if rest.startswith(("#", "//", "/*")):
        why = 'JSON has no comments; keys that begin with # are taken for such: "# why": "..."'
    elif (before.endswith(",") and rest[:1] in ("}", "]")) or rest.startswith((",}", ",]")):
        why = "a comma stands before the end of an object or a list; remove it"
    elif rest.startswith("'"):
        why = "text stands in double quotes"
    elif rest[:5].lower() in ("true,", "false") or rest[:4] in ("None", "True"):
        why = "the words are true, false and null"
    else:
        why = error.msg
    return f"is not valid JSON: line {error.lineno}, column {error.colno}: {why}"


class _DuplicateKeyError(Exception):
    """Refuse repeated keys: JSON allows them and keeps the last, but one of them must be a mistake."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in pairs:
        if key.startswith(COMMENT):
            continue
        if key in kept:
            raise _DuplicateKeyError(key)
        kept[key] = value
    return kept


def _file_error(path: Path, message: str) -> ConfigError:
    return ConfigError([ConfigProblem("", message, str(path))])


# ---- the environment


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Our variables as the nested object that the file would hold; an empty one counts as unset.

    A variable without ``__`` after the prefix is not ours: Kubernetes sets ``REGISTRY_PORT`` by itself.
    """
    document: dict[str, Any] = {}
    for _variable, path, value in _variables(environment):
        section = document
        for name in path[:-1]:
            inner = section.setdefault(name, {})
            if not isinstance(inner, dict):
                inner = section[name] = {}
            section = inner
        section[path[-1]] = _parsed(value)
    return document


def _variables(environment: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for variable, value in sorted(environment.items()):
        path = tuple(variable.removeprefix(ENVIRONMENT_PREFIX).lower().split(DELIMITER))
        if variable.startswith(ENVIRONMENT_PREFIX) and len(path) > 1 and all(path) and value:
            yield variable, path, value


def _parsed(value: str) -> object:
    """Lists, objects and null are written as JSON; every other value is the text itself."""
    if value[0] in "[{" or value == "null":
        try:
            return json.loads(value, object_pairs_hook=_object)
        except (json.JSONDecodeError, _DuplicateKeyError):
            return value
    return value

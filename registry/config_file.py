"""Reading the configuration file and the environment, and saying in its own words what is wrong with them."""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

ENVIRONMENT_PREFIX = "REGISTRY_"
DELIMITER = "__"
COMMENT = "#"
_CLOSE = 0.6


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the configuration."""

    key: str
    """Dotted, ``storage.fsync``; empty when it concerns the file as a whole."""
    message: str
    """What is wrong and what would be right."""
    source: str
    """The file, or the environment variable."""


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` has every mistake that was found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(_line(problem) for problem in problems))
        self.problems = problems

    def document(self) -> dict[str, object]:
        """The same as a JSON value."""
        return {"error": "configuration", "problems": [asdict(problem) for problem in self.problems]}


def _line(problem: Problem) -> str:
    where = f"{problem.key} ({problem.source})" if problem.key and problem.source else problem.key or problem.source
    return f"{where}: {problem.message}"


# ---- the file


def read_file(path: Path) -> dict[str, Any]:
    """The JSON object in the file without its comments (keys that begin with ``#``). Raises ConfigError."""
    try:
        document = json.loads(path.read_bytes().decode(), object_pairs_hook=_object)
    except OSError as error:
        raise _file_error(path, f"cannot be read: {error.strerror}; check the path that --config names") from None
    except UnicodeDecodeError as error:
        raise _file_error(path, f"is not UTF-8: byte {error.start} is not valid") from None
    except json.JSONDecodeError as error:
        raise _file_error(path, f"is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except _DuplicateKeyError as error:
        raise _file_error(path, f"has the key {error.args[0]!r} twice in one object; remove one") from None
    if not isinstance(document, dict):
        raise _file_error(path, 'must hold one JSON object, such as {"http": {"port": 5000}}')
    return document


class _DuplicateKeyError(Exception):
    """JSON allows it and keeps the last; a person who wrote both meant something else."""


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
    return ConfigError([Problem("", message, str(path))])


# ---- the environment


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The variables that are ours as the nested object that the file would hold; an empty one counts as not set.

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
    """Lists, objects and null are written as JSON; all else is the text itself."""
    if value[0] in "[{" or value == "null":
        try:
            return json.loads(value, object_pairs_hook=_object)
        except (json.JSONDecodeError, _DuplicateKeyError):
            return value
    return value


# ---- what is wrong


def problems_of(error: ValidationError, model: type[BaseModel], environment: Mapping[str, str]) -> list[Problem]:
    """Each mistake that the model found, with its key, where it was written, and what would be right."""
    known = sorted(dotted_keys(model))
    return [_problem(details, known, environment) for details in error.errors()]


def dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of the model and of the sections in it, dotted."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                yield from dotted_keys(candidate, f"{prefix}{name}.")


def _problem(details: ErrorDetails, known: list[str], environment: Mapping[str, str]) -> Problem:
    parts = [str(part) for part in details["loc"]]
    key = ".".join(parts)
    source = next((name for name, path, _value in _variables(environment) if _overlap(path, parts)), "")
    if details["type"] == "extra_forbidden":
        return Problem(key, f"there is no such key{_suggestion(key, known)}", source)
    if details["type"] == "missing":
        return Problem(key, "is missing; give it a value", source)
    expected = _expected(details)
    return Problem(key, f"{_shown(details['input'])} {expected}", source)


def _overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether one of the two keys is the other or lies inside it."""
    return all(left == right for left, right in zip(one, other, strict=False))


def _suggestion(key: str, known: list[str]) -> str:
    section, _dot, name = key.rpartition(".")
    siblings = [other for other in known if other.rpartition(".")[0] == section]
    close = difflib.get_close_matches(key, siblings, n=1, cutoff=_CLOSE)
    elsewhere = [other for other in known if other.rpartition(".")[2] == name]
    meant = close or elsewhere or difflib.get_close_matches(key, known, n=1, cutoff=_CLOSE)
    if meant:
        return f"; did you mean {meant[0]}?"
    names = ", ".join(other.rpartition(".")[2] for other in siblings)
    return f"; {section or 'the file'} has {names}" if names else ""


def _expected(details: ErrorDetails) -> str:
    """What would be right, by the kind of the error; where we know no better words, those of pydantic."""
    context = details.get("ctx", {})
    words = {
        "bool_parsing": "is neither true nor false",
        "bool_type": "is neither true nor false",
        "int_parsing": "is not a whole number",
        "int_type": "is not a whole number",
        "int_from_float": "is not a whole number",
        "float_parsing": "is not a number",
        "float_type": "is not a number",
        "string_type": "is not a text in quotes",
        "tuple_type": "is not a list such as [...]",
        "path_type": "is not a path in quotes",
        "path_not_file": "is not the path of a file",
        "model_type": "is not an object such as {...}",
        "model_attributes_type": "is not an object such as {...}",
        "ip_any_network": "is neither an address nor a network such as 10.0.0.0/8",
        "finite_number": "is not a number",
        "greater_than": f"is too small; it must be more than {context.get('gt')}",
        "greater_than_equal": f"is too small; it must be at least {context.get('ge')}",
        "less_than_equal": f"is too large; it must be at most {context.get('le')}",
        "literal_error": f"is not one of {context.get('expected')}",
        "value_error": str(context.get("error")),
    }
    return words.get(details["type"], f"is not valid: {details['msg']}")


def _shown(value: object) -> str:
    """The value as it was written, cut where long; one that may hold a password (``user:it@host``) is not shown."""
    if isinstance(value, dict):
        return "an object"
    text = json.dumps(value, default=str, ensure_ascii=False)
    if "@" in text:
        return "the value"
    limit = 60
    return text if len(text) <= limit else f"{text[:limit]}…"

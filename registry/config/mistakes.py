"""Configuration mistakes: findings of the settings' model, in our words."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Annotated, get_args, get_origin

from pydantic import BaseModel

from registry.config.file import ConfigProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from registry.config.file import Sources

CHOICE = "["
"""The beginning of tags for members of a union: pydantic adds them to keys."""
NO_CHOICE = "no_choice"
"""The type of the error for a value that fits no member of a union; its message is ours."""
_PRIVATE = {"url", "endpoint_url", "redirect_endpoint_url", "external_url", "access_key_id", "secret_access_key"}
"""Keys whose values are or may hold secrets."""
_NAMES_OF_SECRETS = ("password", "secret", "token")
_CLOSE = 0.6


def problems_of(error: ValidationError, model: type[BaseModel], sources: Sources) -> list[ConfigProblem]:
    """Each mistake with its key, its source, and what would be right."""
    known = sorted(dotted_keys(model))
    return [_problem(details, known, sources) for details in error.errors()]


def dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of the model and of the sections in it, dotted."""
    for attribute, field in model.model_fields.items():
        name = field.alias or attribute
        yield f"{prefix}{name}"
        for candidate in (field.annotation, *get_args(field.annotation)):
            kind = get_args(candidate)[0] if get_origin(candidate) is Annotated else candidate
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from dotted_keys(kind, f"{prefix}{name}.")


def _problem(details: ErrorDetails, known: list[str], sources: Sources) -> ConfigProblem:
    parts = [str(part) for part in details["loc"] if not str(part).startswith(CHOICE)]
    key = ".".join(parts)
    if details["type"] == "missing":
        return ConfigProblem(key, "is missing; give it a value", sources.of(parts[:-1]))
    source = sources.of(parts)
    if details["type"] == "extra_forbidden":
        return ConfigProblem(key, f"there is no such key{_suggestion(key, known)}", source)
    expected = _expected(details)
    shown = "the value" if parts[-1:] and parts[-1] in _PRIVATE else _shown(details["input"])
    return ConfigProblem(key, f"{shown} {expected}", source)


def _suggestion(key: str, known: list[str]) -> str:
    key = ".".join(part for part in key.split(".") if not part.isdecimal())  # the members of a list have the same keys
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
    """What would be right, by the kind of the error; in pydantic's words if we have none."""
    context = details.get("ctx", {})
    words = {
        "bool_parsing": "is neither true nor false",
        "bool_type": "is neither true nor false",
        "int_parsing": "is not a whole number",
        "int_type": "is not a whole number",
        "int_from_float": "is not a whole number",
        "float_parsing": "is not a number",
        "float_type": "is not a number",
        "string_too_short": "is too short",
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
        "too_short": "has nothing in it; it needs at least one",
        "string_pattern_mismatch": "is no name that a bucket can have",
        NO_CHOICE: details["msg"],
    }
    return words.get(details["type"], f"is not valid: {details['msg']}")


def _shown(value: object) -> str:
    """The value as it was written, cut where long; an address, which may hold a password anywhere, is not shown."""
    if isinstance(value, dict):
        return "an object"
    text = json.dumps(value, default=str, ensure_ascii=False)
    if "@" in text or "://" in text or any(name in text.lower() for name in _NAMES_OF_SECRETS):
        return "the value"
    limit = 60
    return text if len(text) <= limit else f"{text[:limit]}…"

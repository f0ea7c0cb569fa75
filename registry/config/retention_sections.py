"""*Retention sections* of the settings: which tags stay, by rules, and what becomes of the rest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator

from registry.config.access_sections import Patterns, check_no_claims
from registry.config.durations import SecondsOrNone  # noqa: TC001 - pydantic reads it
from registry.config.file import ConfigError, Sources, read_file
from registry.config.mistakes import CHOICE, NO_CHOICE, problems_of
from registry.config.sections import Count, Section, split_commas

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ALWAYS: Final = "always"
"""The rule keeps whatever it decides."""
_TAG_PATTERN: Final = re.compile(r"[A-Za-z0-9_*][A-Za-z0-9_.*-]*")


def check_tag_pattern(value: str) -> str:
    """A pattern of tags, in which ``*`` is any text. Raises ValueError for one that no tag could match."""
    if not _TAG_PATTERN.fullmatch(value):
        raise ValueError("is no pattern of tags: letters, digits, '_', '.', '-', and * for any text")
    return value


TagPatterns = Annotated[tuple[Annotated[str, AfterValidator(check_tag_pattern)], ...], BeforeValidator(split_commas)]


class Conditions(Section):
    """What a tag is measured by."""

    newest: Count | None = None
    """How many manifests of the tags that the rule decides in a repository, those that were tagged last."""
    pushed_within: SecondsOrNone | None = None
    """Seconds, or text such as "30d": the tag was set since then."""
    pulled_within: SecondsOrNone | None = None
    """Seconds, or text such as "14d": the manifest was pulled since then, or the tag was set."""

    @model_validator(mode="after")
    def _check_some(self) -> Self:
        if self.newest is None and self.pushed_within is None and self.pulled_within is None:
            raise ValueError("has no condition; it needs newest, pushed_within or pulled_within")
        return self


class KeepSettings(Section):
    """One of "any" and "all", with conditions."""

    any: Conditions | None = None
    """A tag stays if one of these conditions holds."""
    all: Conditions | None = None
    """A tag stays if each of these conditions holds."""

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.any is None) == (self.all is None):
            raise ValueError('needs "any" or "all", and not both')
        return self


def _choose_keep(value: object) -> str | None:
    if isinstance(value, dict | KeepSettings):
        return f"{CHOICE}conditions"
    return f"{CHOICE}always" if value == ALWAYS else None


Keep = Annotated[
    Annotated[Literal["always"], Tag(f"{CHOICE}always")] | Annotated[KeepSettings, Tag(f"{CHOICE}conditions")],
    Discriminator(
        _choose_keep,
        custom_error_type=NO_CHOICE,
        custom_error_message='is neither "always" nor {"any": {...}} or {"all": {...}}',
    ),
]


class RetentionRule(Section):
    """Which of some tags stay. The first rule that matches a tag decides it, and no other one counts."""

    name: str = Field(min_length=1, max_length=64)
    """Name of the rule in reports, unlike those of the rest."""
    repositories: Annotated[Patterns, AfterValidator(check_no_claims)]
    """Patterns of repositories: * is any text within one segment, ** any segments."""
    tags: Annotated[TagPatterns, Field(min_length=1)]
    """Patterns of tags, in which * is any text."""
    but: TagPatterns = Field(default=(), alias="except")
    """Patterns of tags that the rule does not match all the same."""
    keep: Keep
    """"always", or {"any": {...}} or {"all": {...}} with newest, pushed_within, pulled_within."""


def _check_names(rules: tuple[RetentionRule, ...]) -> tuple[RetentionRule, ...]:
    names = [rule.name for rule in rules]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"has two rules of the name {twice}")
    return rules


class RetentionSettings(Section):
    """Which tags stay. A tag that no rule matches stays."""

    mode: Literal["report", "apply"] = "report"
    """What a run does with tags that their rule does not keep: report them, or remove them (apply)."""
    interval: Annotated[SecondsOrNone, Field(gt=0)] | None = 86400
    """Seconds between two runs of the servers, where there are rules; null: only the command runs."""
    max_share: float = Field(default=0.5, ge=0, le=1)
    """Largest part of a repository's tags that a run removes, if these are more than 10: else it leaves all of them."""
    pull_interval: SecondsOrNone = 3600
    """Seconds for which further pulls of a manifest are not written down."""
    rules: Annotated[tuple[RetentionRule, ...], AfterValidator(_check_names)] = ()
    """Rules, of which the first one that matches decides a tag."""


def load_retention(path: Path) -> RetentionSettings:
    """The rules of a file: a whole section, or one with ``rules`` alone. Raises ConfigError, which names the keys."""
    return parse_retention(read_file(path), path)


def parse_retention(document: Mapping[str, Any], path: Path | None = None) -> RetentionSettings:
    """As ``load_retention``, for a document that was read."""
    try:
        return RetentionSettings.model_validate(document)
    except ValidationError as error:
        sources = Sources({}) if path is None else Sources({}, path, document)
        raise ConfigError(problems_of(error, RetentionSettings, sources)) from None

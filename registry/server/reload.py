"""*Reload*: the rules of a server, which its operator changes in the file of settings, and brings by SIGHUP.

The process that the signal reaches reads the file; where it has workers, these get the rules from it, so that all of
them have the same. A file that is wrong changes nothing. Every other section needs a restart.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import structlog

from registry.config.access_check import check_access
from registry.config.access_sections import AccessSettings
from registry.config.file import ConfigError, ConfigProblem
from registry.config.settings import Settings, load_settings
from registry.observability.audit import Event

if TYPE_CHECKING:
    from pathlib import Path

    from registry.observability.audit import AuditLog

NOT_LOADED: Final = "the rules were not loaded, those before stay"

log = structlog.get_logger(__name__)


class Rules(NamedTuple):
    """The section ``access`` that is in use."""

    access: AccessSettings | None
    is_stale: bool = False
    """Whether the file has another one, which is wrong."""

    def to_json(self) -> bytes:
        """As ``parse`` reads it."""
        return json.dumps({"access": _document(self.access), "is_stale": self.is_stale}).encode()

    @classmethod
    def parse(cls, document: bytes) -> Self:
        """What ``to_json`` has made."""
        found = json.loads(document)
        access = None if found["access"] is None else AccessSettings.model_validate(found["access"])
        return cls(access, found["is_stale"])

    @property
    def sha256(self) -> str:
        """The hash of the section, whatever spaces and order the file has."""
        return hashlib.sha256(json.dumps(_document(self.access), sort_keys=True).encode()).hexdigest()


class Reload:
    """The settings of a running server. For one thread."""

    def __init__(self, settings: Settings, config: Path | None, audit: AuditLog | None = None) -> None:
        """``config`` is the file that the settings came from; None if there was none."""
        self.settings = settings
        """Those that are in use; a worker that is begun gets them."""
        self.rules = Rules(settings.access)
        self._config = config
        self._audit = audit

    @property
    def is_wanted(self) -> bool:
        """Whether there is something to reload; SIGHUP ends the process otherwise, as it ends other programs."""
        settings = self.settings
        return self._config is not None or settings.auth is not None or settings.access is not None

    def load(self) -> Rules:
        """Read the file again. Returns the rules that are in use then: the former ones if it is wrong."""
        try:
            found = load_settings(self._config)
            settings = self._with_rules_of(found)
        except Exception as error:
            log.error(NOT_LOADED, reason=str(error), exc_info=not isinstance(error, ConfigError))  # noqa: TRY400
            self.rules = self.rules._replace(is_stale=True)
            return self.rules
        other = [name for name in Settings.model_fields if getattr(found, name) != getattr(settings, name)]
        if other:
            log.warning("changed settings take effect with the next start", sections=other)
        self.settings, self.rules = settings, Rules(settings.access)
        self.announce()
        return self.rules

    def announce(self) -> None:
        """Write to log and audit log which rules are in use."""
        access = self.settings.access
        count = 0 if access is None else len(access.rules)
        log.info("rules are in use", rules=count, sha256=self.rules.sha256)
        if self._audit is not None:
            self._audit.add(Event.RULES_LOADED, rules=count, sha256=self.rules.sha256)

    def _with_rules_of(self, found: Settings) -> Settings:
        """The settings with the rules that were read. Raises ConfigError for such as cannot be used with the rest."""
        settings = self.settings.model_copy(update={"access": found.access})
        problems = check_access(settings)
        if self.settings.access is not None and found.access is None:
            message = (
                "is gone; without it known callers may push and delete everywhere, and it goes with a restart only"
            )
            problems.append(ConfigProblem("access", message, ""))
        elif self.settings.auth is None and (found.access is None) != (self.settings.access is None):
            problems.append(ConfigProblem("access", "comes with a restart only, where there is no auth", ""))
        if problems:
            raise ConfigError(problems)
        return settings


def _document(access: AccessSettings | None) -> object:
    return None if access is None else access.model_dump(mode="json", by_alias=True)

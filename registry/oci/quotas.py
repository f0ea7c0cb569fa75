"""*Quotas*: how many bytes groups of repositories may have, by the settings, whichever caller pushes.

A quota is on the distinct blobs of all repositories that its patterns match, together.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from os.path import commonprefix
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.oci.errors import QuotaExceeded
from registry.oci.glob import Glob

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.config.access_sections import QuotaSettings

_LAST: Final = "~"
"""A character that comes after each that a name can have."""
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP: Final = 1024


class Group(NamedTuple):
    """The repositories of a quota, as a database finds them by their names, compared byte for byte.

    A name matches if it is between ``low`` and ``high`` and an expression matches it: what all patterns begin with
    makes the range, in which an index leads to the names that are looked at.
    """

    low: str
    high: str
    """Greater than the name of each repository that matches."""
    expression: str
    """A regular expression of Python, for the whole name."""
    plain_expression: str
    """As ``expression``, for PostgreSQL."""


class Quota(NamedTuple):
    """The bytes that a group of repositories may have."""

    key: str
    """What the group is called in the database: the same in every process that has the same patterns."""
    patterns: tuple[str, ...]
    limit: int
    """Bytes."""
    group: Group

    def __str__(self) -> str:
        """The quota as an operator knows it."""
        return f"the quota of {', '.join(self.patterns)}"

    def exceeded(self, used: int, size: int | None, received: int = 0) -> QuotaExceeded:
        """The refusal of ``size`` more bytes, None where they are not known, beside ``used`` ones.

        ``received`` of these are those of open uploads.
        """
        more = "" if size is None else f", and {shown(size)} more do not fit"
        uploads = f", {shown(received)} by open uploads" if received else ""
        message = (
            f"{self} is {'full' if used >= self.limit else 'nearly full'}: {shown(used)} of {shown(self.limit)} are"
            f" used{uploads}{more}; delete what is not needed, or have access.quotas raised"
        )
        detail = {"repositories": list(self.patterns), "used": used, "limit": self.limit, "size": size}
        if received:
            detail["uploads"] = received
        return QuotaExceeded(message, detail=detail)


class Quotas:
    """Any thread."""

    def __init__(self, rules: Iterable[QuotaSettings] = ()) -> None:
        self.take(rules)

    def take(self, rules: Iterable[QuotaSettings]) -> None:
        """Have other quotas from now on. A push that is under way may be decided by either."""
        quotas: dict[str, tuple[tuple[Glob, ...], Quota]] = {}
        for rule in rules:
            globs, quota = tuple(map(Glob, rule.repositories)), _quota(rule)
            known = quotas.get(quota.key)
            if known is None or quota.limit < known[1].limit:
                quotas[quota.key] = globs, quota
        self._quotas = quotas
        self.of = lru_cache(maxsize=4096)(self._of)
        """The quotas that a repository, which need not exist, is under: by their keys, so that all lock alike."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._quotas)

    def all(self) -> tuple[Quota, ...]:
        """Every quota, in the order of their keys."""
        return tuple(quota for _, (_, quota) in sorted(self._quotas.items()))

    def _of(self, repository: str) -> tuple[Quota, ...]:
        return tuple(
            quota
            for _, (globs, quota) in sorted(self._quotas.items())
            if any(glob.matches(repository, {}) for glob in globs)
        )


def shown(count: int) -> str:
    """Bytes for a person, and exactly: ``1.5 GiB (1610612736 bytes)``."""
    return about(count) if count < _STEP else f"{about(count)} ({count} bytes)"


def about(count: int) -> str:
    """Bytes for a person, about: ``1.5 GiB``."""
    if count < _STEP:
        return f"{count} bytes"
    exponent = min((count.bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{count / _STEP**exponent:.1f} {_UNITS[exponent]}"


def _quota(rule: QuotaSettings) -> Quota:
    patterns = tuple(sorted(set(rule.repositories)))
    globs = [Glob(pattern) for pattern in patterns]
    low = commonprefix([glob.prefix({}) or "" for glob in globs])  # noqa: RUF071 - of texts, not of paths
    expressions = [
        f"^(?:{'|'.join(each)})$"
        for each in ([glob.expression for glob in globs], [glob.plain_expression for glob in globs])
    ]
    key = hashlib.sha256("\n".join(patterns).encode()).hexdigest()[:32]
    return Quota(key, patterns, rule.bytes, Group(low, low + _LAST, *expressions))

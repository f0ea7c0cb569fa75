"""Withheld: references whose content the repository lacks; naming content gives no right to it (I12).

Tests: ``tests/images/records/test_withholding.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from registry.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Withheld:
    """References by the kind of missing content. A digest may be in both: named as a layer and by an index."""

    blobs: frozenset[Digest] = frozenset()
    """Blobs that the repository lacks."""
    manifests: frozenset[Digest] = frozenset()
    """Entries of indexes that are no manifests of the repository, whether it has the bytes as a blob or not."""

    def __or__(self, other: Withheld) -> Withheld:
        """References in either of two."""
        return Withheld(self.blobs | other.blobs, self.manifests | other.manifests)

    def __sub__(self, other: Withheld) -> Withheld:
        """References in this one alone."""
        return Withheld(self.blobs - other.blobs, self.manifests - other.manifests)

    def __and__(self, other: Withheld) -> Withheld:
        """References in both."""
        return Withheld(self.blobs & other.blobs, self.manifests & other.manifests)

    def __bool__(self) -> bool:
        return bool(self.blobs or self.manifests)

    def __len__(self) -> int:
        return len(self.blobs) + len(self.manifests)

    def to_json(self) -> dict[str, list[str]]:
        """As a record has it: both lists sorted, an empty one left out."""
        lists = {"blobs": sorted(self.blobs), "manifests": sorted(self.manifests)}
        return {name: [str(digest) for digest in digests] for name, digests in lists.items() if digests}

    @classmethod
    def from_json(cls, value: Any) -> Withheld:  # noqa: ANN401 - decoded JSON
        """Read what ``to_json`` gives; None is nothing. Raises ValueError, DigestInvalid."""
        if value is None:
            return NOTHING
        if not isinstance(value, dict) or not value.keys() <= {"blobs", "manifests"}:
            raise ValueError("what is withheld is not an object of blobs and manifests")
        return cls(_digests(value.get("blobs", [])), _digests(value.get("manifests", [])))

    def to_text(self) -> str:
        """As an annotation has it; the same references give the same text."""
        return orjson.dumps(self.to_json()).decode()

    @classmethod
    def parse(cls, text: str) -> Withheld:
        """Read what ``to_text`` gives. Raises ValueError, DigestInvalid."""
        return cls.from_json(orjson.loads(text))


class Lacks:
    """The withheld set while records change it; a record costs its own size, not that of the set."""

    def __init__(self, withheld: Withheld) -> None:
        self._blobs = set(withheld.blobs)
        self._manifests = set(withheld.manifests)

    def change(self, withheld: Withheld, released: Withheld) -> None:
        """Add the references that a record withholds, and remove those that it releases."""
        self._blobs |= withheld.blobs
        self._blobs -= released.blobs
        self._manifests |= withheld.manifests
        self._manifests -= released.manifests

    @property
    def withheld(self) -> Withheld:
        """The set now."""
        return Withheld(frozenset(self._blobs), frozenset(self._manifests))


NOTHING: Final = Withheld()
"""Nothing is withheld."""


def _digests(value: object) -> frozenset[Digest]:
    if not isinstance(value, list) or not all(isinstance(digest, str) for digest in value):
        raise ValueError("what is withheld is not a list of digests")
    return frozenset(Digest.parse(digest) for digest in value)

"""*Key record*: what storage has of an API key: all but the secret."""

from __future__ import annotations

import json
import re
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from registry.auth.keys.key_scope import KeyScope
from registry.oci import moment, strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.auth.keys.key_secret import KeySecret

VERSION: Final = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
DAY: Final = 86400.0


class KeyRecord(NamedTuple):
    """An API key."""

    key_id: str
    sha256: str
    """Hash of the secret, in hex digits."""
    owner: str | None
    """The user without whose rights it has none; None if it has those that rules give to itself."""
    scope: KeyScope | None
    """None if it is not bounded."""
    created: float
    """Seconds since the epoch."""
    expires: float | None
    """None if it never does."""
    description: str

    @classmethod
    def make(
        cls,
        secret: KeySecret,
        *,
        owner: str | None,
        scope: KeyScope | None,
        created: float,
        expires: float | None,
        description: str,
    ) -> Self:
        """The record of a new key."""
        at, until = moment.whole(created), None if expires is None else moment.whole(expires)
        return cls(secret.key_id, secret.sha256, owner, scope, at, until, description)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises ValueError for what is none, and for one of a later release, which may be bounded in other ways."""
        document = strict_json.loads(data)
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise ValueError("it is no key that this release knows")
        try:
            return cls._of(document)
        except (KeyError, TypeError) as error:
            raise ValueError("it is no key: a field is missing, or is of another kind") from error

    @classmethod
    def _of(cls, document: Mapping[str, Any]) -> Self:
        owner, scope = document["owner"], document["scope"]
        if not isinstance(owner, str | None):
            raise TypeError("owner")
        return cls(
            _text(document, "id"),
            _hash(document),
            owner,
            None if scope is None else KeyScope.of(_texts(scope, "repositories"), _texts(scope, "actions")),
            _seconds(document, "created"),
            None if document["expires"] is None else _seconds(document, "expires"),
            _text(document, "description"),
        )

    def ends(self, most_seconds: float) -> float:
        """When it ends where no key may be older than that; the settings may allow less than when it was made."""
        return min(inf if self.expires is None else self.expires, self.created + most_seconds)

    def document(self) -> dict[str, Any]:
        """As a JSON value; ``parse`` reads it."""
        scope = self.scope
        return {
            "version": VERSION,
            "id": self.key_id,
            "sha256": self.sha256,
            "owner": self.owner,
            "scope": scope and {"repositories": list(scope.repositories), "actions": list(scope.actions)},
            "created": moment.to_text(self.created),
            "expires": None if self.expires is None else moment.to_text(self.expires),
            "description": self.description,
        }

    def serialize(self) -> bytes:
        """As ``parse`` reads it."""
        return json.dumps(self.document(), indent=1).encode()


def _text(document: Mapping[str, Any], name: str) -> str:
    found = document[name]
    if not isinstance(found, str):
        raise TypeError(name)
    return found


def _hash(document: Mapping[str, Any]) -> str:
    found = _text(document, "sha256")
    if not _SHA256.fullmatch(found):
        raise ValueError("sha256 is no hash")
    return found


def _texts(document: Mapping[str, Any], name: str) -> list[str]:
    found = document[name]
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise TypeError(name)
    return found


def _seconds(document: Mapping[str, Any], name: str) -> float:
    found = moment.to_seconds(_text(document, name))
    if found is None:
        raise ValueError(f"{name} is no moment")
    return found

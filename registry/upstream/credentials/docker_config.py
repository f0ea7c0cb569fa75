"""*Docker config*: the file in which ``docker login`` keeps passwords, read for its ``auths`` alone.

What it says of helpers is left out: they are programs, and would run with the rights of the registry.

Tests: ``tests/upstream/credentials/test_credentials.py``.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from registry.auth.watched_file import WatchedFile
from registry.oci import strict_json
from registry.upstream.credentials.credential import Credential

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.config.upstream_sections import DockerConfigCredentials
    from registry.upstream.url import Origin


_ALIASES = {"index.docker.io": "docker.io", "registry-1.docker.io": "docker.io"}


class DockerConfigSource:
    """See Credentials. A server without an entry gets none."""

    def __init__(self, settings: DockerConfigCredentials) -> None:
        """Raises ValueError and OSError for a file that cannot be used."""
        self._file = WatchedFile(settings.file, _credentials_of)

    def get(self, origin: Origin) -> Credential | None:
        """The entry of a server, as the file has it now; None if it has none."""
        known = self._file.current()
        return known.get(_ALIASES.get(origin.authority, origin.authority))

    def reject(self, credential: Credential) -> bool:
        """A server does not accept this one: another one is there only if a login has changed the file."""
        return credential not in self._file.current().values()


def _credentials_of(data: bytes) -> Mapping[str, Credential]:
    """The entries with a password, by host and port. Raises ValueError."""
    try:
        document = strict_json.loads(data)
    except strict_json.StrictJSONError:
        raise ValueError("it is no JSON") from None
    entries = document.get("auths", {}) if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise ValueError("it has no auths")  # noqa: TRY004 - a file of that content
    found: dict[str, Credential] = {}
    for name, entry in entries.items():
        credential = _credential_of(name, entry)
        if credential is not None:
            host = urlsplit(name if "://" in name else f"//{name}").netloc.lower().removesuffix(":443")
            found.setdefault(_ALIASES.get(host, host), credential)
    return found


def _credential_of(name: str, entry: Any) -> Credential | None:  # noqa: ANN401 - any JSON value
    if not isinstance(entry, dict):
        raise ValueError(f"its entry for {name} is no object")  # noqa: TRY004 - a file of that content
    if isinstance(entry.get("auth"), str) and entry["auth"]:
        try:
            user, colon, secret = b64decode(entry["auth"], validate=True).decode().rstrip("\0").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError(f"its entry for {name} is not base64 of UTF-8") from None
        return Credential(user, secret) if colon and user and secret else None
    named, password = entry.get("username"), entry.get("password")
    if isinstance(named, str) and isinstance(password, str) and named and password:
        return Credential(named, password)
    return None  # a helper has the password, or there is an identity token

"""*Basic*: a user and a password, from a file that may be replaced, or from the environment.

Tests: ``tests/upstream/credentials/test_credentials.py``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from registry.auth.watched_file import WatchedFile
from registry.upstream.credentials.credential import Credential
from registry.upstream.errors import TokenUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.config.upstream_sections import BasicCredentials
    from registry.upstream.url import Origin


class BasicSource:
    """See Credentials."""

    def __init__(self, settings: BasicCredentials) -> None:
        """Raises ValueError and OSError for a file that cannot be used."""
        self._user = settings.username
        self._password: Callable[[], str]
        if settings.password_file is not None:
            self._password = WatchedFile(settings.password_file, _password_of).current
        else:
            variable = settings.password_variable or ""
            self._password = lambda: os.environ.get(variable, "")
            self._variable = variable

    def get(self, origin: Origin) -> Credential:  # noqa: ARG002 - the same for each
        """The credential for a server, as it is now. Raises TokenUnavailable."""
        password = self._password()
        if not password:
            raise TokenUnavailable(f"the variable {self._variable} has no password for {self._user}")
        return Credential(self._user, password)

    def reject(self, credential: Credential) -> bool:
        """A server does not accept this one: another one is there only if an operator has changed it."""
        return self._password() != credential.secret


def _password_of(data: bytes) -> str:
    try:
        password = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("the password is not UTF-8") from None
    if not password or "\n" in password or "\0" in password:
        raise ValueError("it has not one password on one line")
    return password

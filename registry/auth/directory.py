"""*Directory*: the users, keys and names of certificates that there are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.identity import Kind

if TYPE_CHECKING:
    from registry.auth.certificates import Certificates
    from registry.auth.identity import Identity
    from registry.auth.keys.api_keys import ApiKeys
    from registry.auth.passwords.password_users import PasswordUsers


class LiveDirectory:
    """Any thread."""

    def __init__(
        self, users: PasswordUsers | None, keys: ApiKeys | None, certificates: Certificates | None = None
    ) -> None:
        """None for what is not configured."""
        self._users = users
        self._keys = keys
        self._certificates = certificates

    def look(self) -> None:
        """Learn what has changed."""
        self.look_at_users()
        self.look_at_keys()

    def look_at_users(self) -> None:
        """Learn which users have changed: of a file, without a wait."""
        if self._users is not None:
            self._users.look()

    def look_at_keys(self) -> None:
        """Learn which keys were revoked; waits while the database says nothing."""
        if self._keys is not None:
            self._keys.look()

    def close(self) -> None:
        """Write down what the last look has left. Raises DatabaseError."""
        if self._keys is not None:
            self._keys.write_uses()

    @property
    def problems(self) -> list[str]:
        """The parts of the configuration that have a problem, as they are named there."""
        return ["auth.htpasswd"] if self._users is not None and self._users.problem is not None else []

    @property
    def generation(self) -> str:
        """See Currency."""
        return "" if self._keys is None else self._keys.generation

    def find(self, kind: Kind, name: str) -> Identity | None:
        """The user or key, or the identity of a certificate; None if there is none. Raises StorageError."""
        if kind is Kind.USER and self._users is not None:
            return self._users.find(name)
        if kind is Kind.KEY and self._keys is not None:
            return self._keys.find(name)
        if kind is Kind.CERTIFICATE and self._certificates is not None:
            return self._certificates.find(name)
        return None

    def is_current(self, identity: Identity, generation: str) -> bool:
        """See Currency."""
        if identity.kind is Kind.USER:
            return self._users is not None and self._users.is_current(identity)
        if identity.kind is Kind.KEY:
            return self._keys is not None and self._keys.is_current(identity, generation)
        return True

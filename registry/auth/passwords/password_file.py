"""*Password file*: changes of a htpasswd file, each of which replaces it whole.

A process that is killed leaves the old file or the new one, and two that change it wait for each other. Comments and
the lines of the rest stay as they are, and so do mode and owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Final

from registry.auth.errors import AccountError
from registry.auth.passwords.htpasswd import check_user, parse_htpasswd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from registry.auth.passwords.password_hash import PasswordHash

NEW_MODE: Final = 0o600


class PasswordFile:
    """Every method raises OSError, and AccountError for a file with a line that is wrong."""

    def __init__(self, path: Path) -> None:
        """``path`` may be a symbolic link: what it points to is replaced."""
        self._path = path.resolve()

    def users(self) -> list[str]:
        """The users, in the order of the file; none if there is no file."""
        return list(_parsed(self._read()))

    def add(self, user: str, stored: PasswordHash) -> None:
        """Add a user, to a new file if there is none. Raises AccountError if it is there, or can be none."""
        try:
            check_user(user)
        except ValueError as error:
            raise AccountError(str(error)) from error

        def change(lines: list[str]) -> list[str]:
            if any(_user_of(line) == user for line in lines):
                raise AccountError(f"the user {user} is there already; registry user passwd changes its password")
            return [*lines, f"{user}:{stored.text}"]

        self._change(change)

    def replace(self, user: str, stored: PasswordHash) -> None:
        """Change the password of a user, which ends its tokens. Raises AccountError if it is not there."""
        self._change(lambda lines: _replaced(lines, user, [f"{user}:{stored.text}"]))

    def remove(self, user: str) -> None:
        """Remove a user, which ends its tokens and keys. Raises AccountError if it is not there."""
        self._change(lambda lines: _replaced(lines, user, []))

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""

    def _change(self, change: Callable[[list[str]], list[str]]) -> None:
        with self._locked() as directory:
            document = self._read()
            _parsed(document)
            lines = change(document.decode().splitlines())
            self._publish("".join(f"{line}\n" for line in lines).encode())
            os.fsync(directory)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the lock of the directory: the file itself is another one after each change."""
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield directory
        finally:
            os.close(directory)

    def _publish(self, document: bytes) -> None:
        new = self._path.with_name(f".{self._path.name}.new")
        new.unlink(missing_ok=True)  # of a process that was killed: no other has the lock
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, NEW_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                self._keep_owner(descriptor)
                file.write(document)
                file.flush()
                os.fsync(descriptor)
            new.replace(self._path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    def _keep_owner(self, descriptor: int) -> None:
        try:
            old = self._path.stat()
        except FileNotFoundError:
            return
        made = os.fstat(descriptor)
        if (made.st_uid, made.st_gid) != (old.st_uid, old.st_gid):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _parsed(document: bytes) -> list[str]:
    try:
        return list(parse_htpasswd(document))
    except ValueError as error:
        raise AccountError(f"the file is wrong, and is not changed: {error}") from error


def _replaced(lines: list[str], user: str, by: list[str]) -> list[str]:
    places = [index for index, line in enumerate(lines) if _user_of(line) == user]
    if not places:
        raise AccountError(f"there is no user {user}")
    return [*lines[: places[0]], *by, *lines[places[0] + 1 :]]


def _user_of(line: str) -> str | None:
    """None for a comment and an empty line."""
    bare = line.strip()
    return None if not bare or bare.startswith("#") else bare.partition(":")[0]

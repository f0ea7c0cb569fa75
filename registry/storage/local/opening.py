"""Opening: files and directories of a local store, reached through no symbolic link.

A look before the use would leave a moment in which a directory becomes a link that leads elsewhere, so the kernel
refuses links while it resolves the path: ``openat2``, or one component after the other where that is not to be had.

Tests: ``tests/storage/local/test_root.py``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat as modes
from contextlib import contextmanager, suppress
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPENAT2: Final = 437
"""The number of the system call, on every architecture but Alpha."""
_NO_SYMLINKS: Final = 0x04
"""RESOLVE_NO_SYMLINKS of linux/openat2.h."""
_UNSUPPORTED: Final = frozenset({errno.ENOSYS, errno.EPERM, errno.E2BIG})
"""What kernels before 5.6, and filters of system calls that are older than it, answer."""
LOOK_SECONDS: Final = 1.0
"""How long a look at a directory counts for stats of its files."""
_MOST_DIRECTORIES: Final = 10_000
DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
"""Opens a directory to reach names in it."""
SYNCED_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
"""Opens one whose names can also be put on stable storage."""


class DirectoryEntry(NamedTuple):
    """A name in an open directory."""

    name: str
    directory: int | None = None
    """The directory's descriptor; None if the name is an absolute path without links."""

    def stat(self) -> os.stat_result:
        """The stat of the name itself. Raises OSError."""
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def exists(self) -> bool:
        """Whether there is anything of this name. Raises OSError where that cannot be told."""
        with suppress(FileNotFoundError):
            self.stat()
            return True
        return False


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW_BYTES: Final = ctypes.sizeof(_How)


@lru_cache(maxsize=64)
def _how(flags: int, mode: int) -> _How:
    """Read by the kernel alone, so that all threads share it: every HEAD of a blob opens something."""
    return _How(flags | os.O_CLOEXEC, mode, _NO_SYMLINKS)


_system_call = ctypes.CDLL(None, use_errno=True).syscall
_system_call.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_How), ctypes.c_size_t)
_system_call.restype = ctypes.c_long


def open_unlinked(path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of the absolute ``path``, which the caller closes. ``mode``: of a file that ``O_CREAT`` makes.

    Raises OSError; ELOOP where a symbolic link is on the way, and at the end unless ``flags`` has O_PATH and
    O_NOFOLLOW, which open the link itself.
    """
    how, name = _how(flags, mode), os.fsencode(path)
    while (descriptor := _system_call(_OPENAT2, -1, name, how, _HOW_BYTES)) < 0:
        error = ctypes.get_errno()
        if error in _UNSUPPORTED:
            return open_by_component(path, flags, mode)
        if error not in {errno.EINTR, errno.EAGAIN}:  # EAGAIN: something was renamed while the path was resolved
            raise OSError(error, os.strerror(error), path)
    return int(descriptor)


def open_by_component(path: str, flags: int, mode: int = 0) -> int:
    """As ``open_unlinked``, with the calls that every kernel has."""
    *parents, last = path.strip("/").split("/")
    directory = os.open("/", DIRECTORY)
    try:
        for segment in parents:
            below = _step(directory, segment, DIRECTORY)
            os.close(directory)
            directory = below
        return _step(directory, last, flags | os.O_CLOEXEC, mode)
    finally:
        os.close(directory)


def stat_unlinked(path: str) -> os.stat_result:
    """The stat of the absolute ``path``, or of a link at its end. Raises OSError; ELOOP for a link on the way."""
    descriptor = open_unlinked(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


class DirectoryLooks:
    """Stats of files whose directories were looked at lately, for an answer at each HEAD. Any thread.

    A directory that becomes a symbolic link is noticed within LOOK_SECONDS. Until then a stat tells of what lies behind
    it; no byte of that is read or written, because opening looks each time.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def stat(self, path: str) -> os.stat_result:
        """As ``stat_unlinked``, with one system call in place of three."""
        directory = path.rpartition("/")[0]
        if monotonic() >= self._until.get(directory, 0.0):
            os.close(open_unlinked(directory, DIRECTORY))
            if len(self._until) >= _MOST_DIRECTORIES:
                self._until.clear()
            self._until[directory] = monotonic() + LOOK_SECONDS
        return os.stat(path, follow_symlinks=False)


@contextmanager
def entry_at(path: str) -> Iterator[DirectoryEntry]:
    """The name at the end of the absolute ``path``, its directory being open. Raises OSError; ELOOP for a link."""
    above, _, name = path.rpartition("/")
    directory = open_unlinked(above, DIRECTORY)
    try:
        yield DirectoryEntry(name, directory)
    finally:
        os.close(directory)


def first_link(root: str, directory: str) -> str | None:
    """The first name on the way from ``root`` to the ``directory`` below it that is a symbolic link; None for none."""
    path = root
    for segment in directory.split("/"):
        path = f"{path}/{segment}"
        if os.path.islink(path):
            return path
    return None


def _step(directory: int, segment: str, flags: int, mode: int = 0) -> int:
    try:
        return os.open(segment, flags | os.O_NOFOLLOW, mode, dir_fd=directory)
    except NotADirectoryError:
        if modes.S_ISLNK(os.stat(segment, dir_fd=directory, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), segment) from None
        raise

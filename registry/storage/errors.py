"""Errors of storage drivers. A vendor's exception never leaves its driver (I10).

Tests: ``tests/storage/test_driver_contract.py``.
"""

from __future__ import annotations


class StorageError(Exception):
    """Storage did not do what was asked; ``key`` names the object (``""`` where there is none)."""

    def __init__(self, key: str = "", reason: str = "") -> None:
        super().__init__(f"{key}: {reason}" if reason else key)
        self.key = key
        self.reason = reason


class PathNotFound(StorageError):
    """There is no object at this key (proven: a listing or a stat said so, not a failure to ask)."""


class AlreadyExists(StorageError):
    """A write that was to create found an object at its key; nothing was changed."""


class PreconditionFailed(StorageError):
    """The object is no longer the one that the condition names; nothing was changed."""


class InvalidRange(StorageError):
    """The range begins behind the end of the object."""


class ObjectTooLarge(StorageError):
    """A bounded read met an object larger than its bound; nothing was read into memory."""


class UploadBusy(StorageError):
    """Another writer, in this or another process, is writing to this upload."""


class UploadOffsetMismatch(StorageError):
    """The upload holds fewer bytes than the offset to continue from."""


class UploadNotResumable(StorageError):
    """The bytes went straight to where they will be published: they cannot be kept, read, or published elsewhere."""


class StoreMisconfigured(StorageError):
    """The store cannot be used as it is configured (bucket, keys, rights, region); repeating it changes nothing."""


class NotOffered(StoreMisconfigured):
    """The store does not implement the operation; nothing was carried out."""


class Throttled(StorageError):
    """The store asks for fewer requests (429, 503 SlowDown); retrying later is safe."""


class StorageFull(StorageError):
    """No space or quota is left; nothing was published."""


class StorageUnavailable(StorageError):
    """The store failed, timed out or refused; whether that took effect is not known, and repeating it is safe."""


class NotSent(StorageUnavailable):
    """The request has not left this process: it was not carried out, and will not be."""


class Unanswered(StorageUnavailable):
    """The store has the request and said nothing in time: it may still carry it out, also after another one."""


class PathRefused(StorageUnavailable):
    """This path cannot be read or written (rights, a symbolic link, damage); nothing is said of any other."""


class UnsupportedOperation(StorageError):
    """The driver's capabilities say that it cannot do this; a caller that looked at them would not have asked."""

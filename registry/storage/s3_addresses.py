"""Addresses at which clients read objects of an S3 bucket themselves, signed here.

Amazon's library takes half a millisecond of the processor for one, more than the whole request that asks for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, NoCredentialsError

from registry.storage.s3_answers import meaning
from registry.storage.s3_signature import Signature, path_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.credentials import Credentials

    from registry.storage.s3_place import Place


class _Known(NamedTuple):
    place: Place
    signature: Signature


class S3Addresses:
    """Any thread."""

    def __init__(self, find: Callable[[], Place], credentials: Credentials | None) -> None:
        """``find`` is asked once, at the first address: where clients find the bucket."""
        self._find = find
        self._credentials = credentials
        self._lock = threading.Lock()
        self._known: _Known | None = None

    def address(self, key: str, path: str, seconds: int) -> str:
        """Where the object ``path``, its whole key, is read for so many seconds; ``key`` is for errors.

        Borrowed credentials may end before. Raises StoreRefused (no credentials), StorageUnavailable.
        """
        try:
            if self._credentials is None:
                raise NoCredentialsError
            place, signature = self._way()
            credentials = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise meaning(key, error) from error
        target = place.path + path_of(path)
        return f"{place.origin}{target}?{signature.query(credentials, place.host, target, seconds=seconds)}"

    def _way(self) -> _Known:
        """Raises BotoCoreError."""
        if self._known is None:
            with self._lock:
                if self._known is None:
                    place = self._find()
                    self._known = _Known(place, Signature(place.region, place.service))
        return self._known

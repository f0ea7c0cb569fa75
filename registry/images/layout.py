"""Layout: the keys of what is on storage, for both layouts of blobs (design.md, section 2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.storage.driver import BlobLayout

if TYPE_CHECKING:
    from registry.oci.digest import Digest
    from registry.storage.driver import Capabilities

COLLECTION_STATE = ".gc/state.json"
"""The key of what says which database collects on this storage."""
SEGMENT = 4096
"""Records in one file of a journal, where the store appends."""

TRASH = ".trash"
"""The prefix of what repositories can have again."""
QUARANTINE = ".quarantine"
"""The prefix of wrong bytes that a scrub has moved out of repositories."""
_LEAVING: Final = ".leaving"
_PACKED: Final = "packed-"
"""Begins the names of packs: a listing has them behind all other records, and earlier releases pass over them."""
_PACK = re.compile(r"packed-(\d{16})-(\d{16})\.jsonl")


class Span(NamedTuple):
    """The numbers of the records that an object of a journal can hold, by its name."""

    first: int
    last: int


class Layout:
    """The keys of one store."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.per_repository = capabilities.blob_layout is BlobLayout.PER_REPOSITORY
        self._appends = capabilities.appends

    def blob(self, repository: str, digest: Digest) -> str:
        """The key of a blob as a member of ``repository``."""
        if self.per_repository:
            return f"{repository}/blobs/{digest.algorithm}/{digest.encoded}"
        return f"storage/blobs/{digest.algorithm}/{digest.encoded}"

    def blobs(self, repository: str, algorithm: str) -> str:
        """The prefix of a repository's blobs, where each repository has its own."""
        return f"{repository}/blobs/{algorithm}"

    @staticmethod
    def trash(repository: str, digest: Digest) -> str:
        """The key of what a repository had and can have again, where each repository has its own blobs."""
        return f"{TRASH}/{repository}/blobs/{digest.algorithm}/{digest.encoded}"

    @staticmethod
    def leaving_trash(repository: str, digest: Digest) -> str:
        """The key of what is about to leave the trash, until it is certain that nothing needs it anew."""
        return f"{Layout.trash(repository, digest)}{_LEAVING}"

    @staticmethod
    def trashed(key: str) -> tuple[str, str]:
        """The repository and the digest that a key of the trash says, also of what is leaving it."""
        repository, _, name = key.removeprefix(f"{TRASH}/").rpartition("/blobs/")
        return repository, name.removesuffix(_LEAVING).replace("/", ":", 1)

    @staticmethod
    def quarantine(key: str) -> str:
        """The key of wrong bytes that were at ``key``, where each repository has its own blobs."""
        return f"{QUARANTINE}/{key}"

    @staticmethod
    def index(repository: str) -> str:
        """The key of ``index.json``."""
        return f"{repository}/index.json"

    @staticmethod
    def marker(repository: str) -> str:
        """The key of the file that makes a directory an OCI image layout."""
        return f"{repository}/oci-layout"

    def journal(self, repository: str) -> str:
        """The prefix of a repository's records."""
        return f"{repository}/.journal"

    def record(self, repository: str, sequence: int) -> str:
        """The key of the object that holds record ``sequence``, alone or with more. Names sort as numbers."""
        if self._appends:
            return f"{repository}/.journal/{sequence // SEGMENT:016d}.jsonl"
        return f"{repository}/.journal/{sequence:016d}.json"

    def pack(self, repository: str, span: Span) -> str:
        """The key of the object that holds every record of ``span``, all of them old (proposal 0015)."""
        return f"{repository}/.journal/{_PACKED}{span.first:016d}-{span.last:016d}.jsonl"

    def before_packs(self, repository: str) -> str:
        """A key that sorts after every other record of a repository, and before its packs."""
        return f"{repository}/.journal/{_PACKED}"

    @staticmethod
    def is_pack(journal_name: str) -> bool:
        """Whether an object of a journal is a pack, by its name."""
        return _PACK.fullmatch(journal_name) is not None

    @staticmethod
    def span_of(journal_name: str) -> Span | None:
        """The records that an object of a journal can hold; None if it has none."""
        if (found := _PACK.fullmatch(journal_name)) is not None:
            return Span(int(found[1]), int(found[2]))
        stem, _, suffix = journal_name.rpartition(".")
        if not stem.isdecimal() or suffix not in {"json", "jsonl"}:
            return None
        number = int(stem)
        return Span(number, number) if suffix == "json" else Span(number * SEGMENT, (number + 1) * SEGMENT - 1)

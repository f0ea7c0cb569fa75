"""Layout: the keys of what is on storage, for both layouts of blobs (design.md, section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.driver import BlobLayout

if TYPE_CHECKING:
    from registry.oci.digest import Digest
    from registry.storage.driver import Capabilities

SEGMENT = 4096
"""Records in one file of a journal, where the store appends."""


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

    def first_of(self, journal_name: str) -> int:
        """The lowest sequence number that an object of a journal, by its name, can hold; -1 if it has no records."""
        stem, _, suffix = journal_name.rpartition(".")
        if not stem.isdecimal() or suffix not in {"json", "jsonl"}:
            return -1
        return int(stem) * (SEGMENT if suffix == "jsonl" else 1)

"""History: what the folded records of a repository say beside its content: times, and what is withheld (I11, I12).

A fold of this release writes it into ``index.json``. An index of the release before lacks it, and one that such a
release has folded since lacks it from there on: it is then read from the journal, once, and written down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from registry.database import repositories
from registry.images.records.journal import Journal
from registry.oci.index import Index, Owner
from registry.storage.errors import PreconditionFailed, StorageError

if TYPE_CHECKING:
    from registry.images.backends import Backends

ATTEMPTS = 20
"""How often the index may be written by another between our read and our write."""

log = structlog.get_logger(__name__)


class History:
    """Any thread, any process: the conditional write decides between several."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._journal = Journal(backends)

    def complete(self, name: str) -> None:
        """Have ``index.json`` say all that its records say. Raises StorageError, with the index as it was.

        A repository may have many records, and another process may fold some meanwhile: none is read twice.
        """
        said: Index | None = None
        for _ in range(ATTEMPTS):
            data, stat = self._backends.index_file.read(name)
            index = Index.parse(data)
            if index.owner is not Owner.OURS or index.noted == index.folded:
                return
            if said is not None and said.noted > index.noted:
                index.take_notes(said)
            self._journal.note(name, index)
            if self.write(name, index.serialise(), stat.etag):
                return
            said = index

    def write(self, name: str, data: bytes, etag: str) -> bool:
        """Write down an index that says more than the one with ``etag``, and has the same content.

        False where that is another by now. Where storage takes nothing it is left to the next fold or reader.
        """
        try:
            written = self._backends.index_file.write(name, data, etag)
        except PreconditionFailed:
            return False
        except StorageError as error:
            log.info("the times of an index.json were not written down yet", repository=name, reason=str(error))
            return True
        with self._backends.database.transaction() as connection:
            repositories.replace_etag(connection, name, etag, written)
        return True

"""A program: ``registry`` with a row for the directory store, in place of that of the local driver."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from registry.cli.main import main
from registry.storage.factory import DRIVERS
from tests.storage.object_store.directory_store import DirectoryStore

if TYPE_CHECKING:
    from registry.config.settings import Settings
    from registry.storage.middleware.metrics import Observe


def _open(settings: Settings, observe: Observe | None) -> DirectoryStore:
    return DirectoryStore(settings.storage.root_directory / "store", observe)


if __name__ == "__main__":
    DRIVERS["local"] = _open
    main()

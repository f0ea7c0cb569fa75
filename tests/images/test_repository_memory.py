"""What a process remembers of repositories."""

from __future__ import annotations

import threading

from registry.images.repository_memory import RepositoryMemory


def test_a_repository_that_was_never_looked_at_has_empty_notes() -> None:
    memory = RepositoryMemory()
    assert memory.looked("app") is None
    with memory.of("app") as notes:
        assert (notes.looked, notes.newest, notes.missing, notes.met_foreign) == (None, 0, None, None)


def test_notes_are_kept_for_each_repository() -> None:
    memory = RepositoryMemory()
    with memory.of("app") as notes:
        notes.looked, notes.newest = 5.0, 7
    assert (memory.looked("app"), memory.looked("other")) == (5.0, None)
    with memory.of("app") as notes:
        assert notes.newest == 7


def test_changes_by_several_threads_are_all_kept() -> None:
    memory = RepositoryMemory()

    def raise_newest() -> None:
        for _ in range(2000):
            with memory.of("app") as notes:
                notes.newest += 1

    threads = [threading.Thread(target=raise_newest) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with memory.of("app") as notes:
        assert notes.newest == 8000

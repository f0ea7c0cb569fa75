"""Indexes that a process has written are not parsed again, and never taken for what storage has when they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from registry.images.records import written_indexes
from registry.images.registry import Registry
from registry.oci.index import Index
from tests.support.registry_world import NAME, World, push_image, read_index, tags


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Each index that is parsed."""
    found: list[bytes] = []
    real: Callable[[bytes], Index] = Index.parse

    def parse(data: bytes) -> Index:
        found.append(data)
        return real(data)

    monkeypatch.setattr(Index, "parse", parse)
    return found


def push_and_fold(registry: Registry, *names: str) -> None:
    for name in names:
        push_image(registry, name, name)
        registry.fold_waiting()


@pytest.mark.parametrize("kind", ["local"])
def test_a_process_that_folds_again_parses_nothing(world: World, parsed: list[bytes]) -> None:
    registry = world.registry()
    push_and_fold(registry, "a", "b")
    parsed.clear()
    push_and_fold(registry, "c", "d")
    assert parsed == []
    assert set(read_index(registry).tags()) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("kind", ["local"])
def test_what_another_process_has_folded_is_read(world: World) -> None:
    one, other = world.registry(), world.registry()
    push_and_fold(one, "a", "b")
    push_and_fold(other, "c")
    push_and_fold(one, "d")
    push_and_fold(other, "e")
    assert set(read_index(one).tags()) == {"a", "b", "c", "d", "e"}


@pytest.mark.parametrize("kind", ["local"])
def test_what_another_tool_has_written_is_read(world: World) -> None:
    registry = world.registry()
    push_and_fold(registry, "a", "b")
    path = Path(world.root) / NAME / "index.json"
    index = Index.parse(path.read_bytes())
    index.set_tag("z", index.tags()["b"])
    path.write_bytes(index.serialise())
    push_and_fold(registry, "c")
    assert set(tags(registry)) == set(read_index(registry).tags()) == {"a", "b", "c", "z"}


@pytest.mark.parametrize("kind", ["local"])
def test_a_kept_index_says_what_its_file_says(world: World, parsed: list[bytes]) -> None:
    registry = world.registry()
    push_and_fold(registry, "a")
    registry.manifests.untag(NAME, "a", actor="tester")
    push_and_fold(registry, "b")
    registry.fold_waiting()
    parsed.clear()
    push_and_fold(registry, "a")
    assert parsed == []
    data, _ = registry.backends.index_file.read(NAME)
    assert Index.parse(data).serialise() == data


@pytest.mark.parametrize("kind", ["local"])
def test_a_large_index_is_not_kept(world: World, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_indexes, "PARSED_BYTES", 100)
    registry = world.registry()
    push_and_fold(registry, "a")
    parsed.clear()
    push_and_fold(registry, "b")
    assert len(parsed) == 1

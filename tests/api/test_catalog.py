"""Catalog of many repositories of which a caller sees few: full pages, and nothing of the rest (check 19)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pytest

from registry.database import repositories
from tests.api.test_guard import Registry, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = sorted(f"r{number:05}/{'ours' if number % 73 == 0 else 'theirs'}" for number in range(10_000))
OURS = [name for name in NAMES if name.endswith("ours")]
RULES: list[dict[str, Any]] = [
    {"who": ["alice"], "repositories": ["**"], "actions": ["pull"]},
    {"who": ["bob"], "repositories": ["*/ours"], "actions": ["pull"]},
    {"who": ["carol"], "repositories": ["r00073/**"], "actions": ["pull"]},
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with opened(tmp_path_factory.mktemp("catalog"), access={"rules": RULES}) as made:
        with made.service.registry.backends.database.transaction() as connection:
            for name in NAMES:
                repositories.create(connection, name, etag="", now=0.0)
        yield made


class Walk:
    """All pages that a caller gets, and how many names were read from the database for them."""

    def __init__(self, registry: Registry, user: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pages: list[list[str]] = []
        self.lasts: list[str] = []
        self.read = 0
        page = registry.service.registry.repositories.page

        def counting(*, last: str, count: int) -> list[str]:
            names = page(last=last, count=count)
            self.read += len(names)
            return names

        with monkeypatch.context() as patch:
            patch.setattr(registry.service.registry.repositories, "page", counting)
            target = f"/v2/_catalog?n={size}"
            while target:
                reply = registry.call("GET", target, user)
                self.pages.append(reply.json["repositories"])
                target = reply.headers.get("link", "").partition(">")[0].removeprefix("<")
                if target:
                    self.lasts.append(unquote(target.partition("last=")[2].partition("&")[0]))

    @property
    def names(self) -> list[str]:
        return [name for page in self.pages for name in page]


@pytest.mark.parametrize("size", [10, 100, 137, 1000])
def test_pages_are_full_and_name_nothing_that_is_hidden(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    walk = Walk(registry, "bob", size, monkeypatch)
    assert walk.names == OURS
    assert len(OURS) == 137
    assert {len(page) for page in walk.pages[:-1]} <= {size}
    assert walk.lasts == [page[-1] for page in walk.pages[:-1]]
    assert walk.read <= 2 * Walk(registry, "alice", 1000, monkeypatch).read


def test_a_caller_of_which_the_rules_name_a_prefix_causes_no_look_at_the_rest(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = Walk(registry, "carol", 10, monkeypatch)
    assert walk.names == ["r00073/ours"]
    assert walk.read <= 1000


def test_a_page_after_a_hidden_name_is_that_after_one_that_is_not_there(registry: Registry) -> None:
    for hidden, absent in (("r00001/theirs", "r00001/theirt"), ("r09999/theirs", "r09999/zzz")):
        found = [
            registry.call("GET", f"/v2/_catalog?n=5&last={quote(last, safe='')}", "bob") for last in (hidden, absent)
        ]
        assert found[0].json == found[1].json
        assert found[0].headers.get("link") == found[1].headers.get("link")


def test_tags_are_told_to_those_alone_that_may_pull(registry: Registry) -> None:
    for user, status in (("alice", 200), ("bob", 403)):
        assert registry.call("GET", "/v2/r00001/theirs/tags/list?n=5&last=x", user).status == status
    assert registry.call("GET", "/v2/r00001/none/tags/list?n=5&last=x", "bob").status == 403
    assert registry.call("GET", "/v2/r00073/ours/tags/list?n=5", "bob").status == 200

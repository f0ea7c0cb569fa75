"""What bounds a key."""

from __future__ import annotations

import pytest

from registry.auth.keys.key_scope import KeyScope


@pytest.mark.parametrize(
    ("actions", "action", "repository", "allowed"),
    [
        (("pull",), "pull", "team/app", True),
        (("pull",), "push", "team/app", False),
        (("pull",), "pull", "other/app", False),
        (("push",), "pull", "team/app", True),
        (("push",), "push", "team/app", True),
        (("push",), "delete", "team/app", False),
        (("delete",), "pull", "team/app", False),
        (("*",), "delete", "team/app", True),
        (("*",), "admin", "team/app", True),
        (("pull",), "catalog", None, True),
        (("*",), "admin", None, False),
        (("pull",), "pull", None, False),
    ],
)
def test_what_a_key_for_a_team_allows(
    actions: tuple[str, ...], action: str, repository: str | None, allowed: bool
) -> None:
    assert KeyScope.of(["team/**"], actions).allows(action, repository) is allowed


def test_a_key_for_everything_allows_what_concerns_no_repository() -> None:
    assert KeyScope.of(["**"], ["admin"]).allows("admin", None)


@pytest.mark.parametrize(
    ("repositories", "actions"),
    [([], ["pull"]), (["team"], []), (["Team"], ["pull"]), (["team"], ["PULL"]), (["{project}"], ["pull"])],
)
def test_a_bound_that_means_nothing_is_refused(repositories: list[str], actions: list[str]) -> None:
    with pytest.raises(ValueError, match=r"bound|repositories|action|claim"):
        KeyScope.of(repositories, actions)

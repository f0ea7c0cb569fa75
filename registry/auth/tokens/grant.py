"""*Grant*: what of the scopes that a client asks for a token gets. Less than that is no error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.auth.tokens.scopes import ALL, CATALOG, REGISTRY, REPOSITORY, Scope
from registry.oci.name import is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ACTIONS: Final = ("pull", "push", "delete")
"""What a token can allow in a repository, in the order of a granted ``*``."""


def grant(asked: Iterable[Scope], has: Callable[[str, str], bool]) -> list[Scope]:
    """The scopes of a token.

    ``has`` tells whether the caller has an action in a repository now, which need not exist: the answer must not tell.
    """
    granted = (Scope(scope.kind, scope.name, tuple(_granted(scope, has))) for scope in asked)
    return [scope for scope in granted if scope.actions]


def _granted(scope: Scope, has: Callable[[str, str], bool]) -> Iterator[str]:
    if scope.kind == REGISTRY and scope.name == CATALOG:
        if ALL in scope.actions:
            yield ALL  # the catalog shows each caller its own
    elif scope.kind == REPOSITORY and is_name(scope.name):
        for action in ACTIONS if ALL in scope.actions else scope.actions:
            if action in ACTIONS and has(action, scope.name):
                yield action

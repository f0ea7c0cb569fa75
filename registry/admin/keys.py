"""*Keys*: ``/api/v1/keys``, where users make and revoke API keys of their own, and administrators those of all.

A key is made by a user with its password or the session of its browser, or by an administrator: never by a token, whose
bound it would not have, nor by a key, which would outlive its own revocation so.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from registry.admin.routing import NOT_STORED, AdminRoute
from registry.api.access import Action, caller_of
from registry.api.http.operations import ALL_KEYS, COUNT, KEY, LAST, TEXTS, Content, json_object, operation
from registry.api.http.pagination import next_link
from registry.api.http.parameters import page_of
from registry.api.http.routing import context_of
from registry.api.http.small_body import JSON, document_of
from registry.auth.errors import AccountError, TooManyKeys
from registry.auth.identity import Kind
from registry.observability.audit import Event
from registry.oci.errors import Denied, NotFound, PaginationInvalid, RequestInvalid, RequestTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.auth.identity import Identity
    from registry.auth.keys.key_administration import KeyAdministration, ListedKey

ROUTE: Final = "/api/v1/keys"
MAX_BODY: Final = 64 << 10
"""Bytes of a request for a key."""
MOST_OF_ONE: Final = 100
"""Keys that a user may have, unless an administrator makes more."""
PAGE: Final = 1000
"""Keys of a page at most, whatever ``limits.page_size`` says: each is an object to read."""
NONE: Final = "there is no such key"

_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_SHOWN: Final[dict[str, Mapping[str, object]]] = {
    "id": _TEXT,
    "owner": _TEXT_OR_NULL,
    "scope": {"type": ["object", "null"], "properties": {"repositories": TEXTS, "actions": TEXTS}},
    "created": _TEXT,
    "expires": _TEXT_OR_NULL,
    "description": _TEXT,
    "last_used": _TEXT_OR_NULL,
}
SHOWN: Final = json_object(JSON, **_SHOWN)
LISTED: Final = json_object(keys={"type": "array", "items": SHOWN.schema})
MADE: Final = json_object(JSON, secret=_TEXT, **_SHOWN)
WANTED: Final = Content(
    JSON,
    {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "owner": {**_TEXT_OR_NULL, "description": "For administrators: another user, or null for no owner."},
            "repositories": {**TEXTS, "description": "Patterns of repositories that it is bounded to."},
            "actions": {**TEXTS, "description": "Actions that it is bounded to: pull, push, delete, admin or *."},
            "days": {"type": "integer", "minimum": 1, "description": "Days until it ends."},
            "description": {"type": "string", "maxLength": 200, "description": "What it is for."},
        },
    },
)

router = APIRouter(route_class=AdminRoute, tags=["Administration"])


class _Manager(NamedTuple):
    """A caller that may see and change keys."""

    keys: KeyAdministration
    user: str | None
    """The user whose keys they are; None for an administrator that is none."""
    is_admin: bool

    def may_manage(self, key: ListedKey) -> bool:
        return self.is_admin or (self.user is not None and key.record.owner == self.user)


@router.get(
    ROUTE,
    **operation(
        Action.IDENTITY,
        ALL_KEYS,
        COUNT,
        LAST,
        answers=(200,),
        errors=(NotFound, PaginationInvalid),
        content=LISTED,
    ),
)
async def get_all(request: Request) -> Response:
    """List the keys of the caller, page by page; with `all=true`, for administrators, those of all."""
    manager, context = _manager(request), context_of(request)
    shows_all = request.query_params.get("all") == "true"
    if shows_all and not manager.is_admin:
        raise Denied("the keys of all are for administrators: no rule allows admin in every repository")
    page, owner = page_of(request, min(context.settings.limits.page_size, PAGE)), None if shows_all else _own(manager)
    found = await context.run(partial(manager.keys.page, page.last, page.size + 1, owner=owner))
    shown, link = found[: page.size], dict[str, str]()
    if shown and len(found) > len(shown):
        scope = {"all": "true"} if shows_all else {}
        link = next_link(context, request, ROUTE, {**scope, "n": page.size, "last": shown[-1].record.key_id})
    return _json({"keys": [key.document() for key in shown]}, headers=link)


@router.post(
    ROUTE,
    **operation(
        Action.IDENTITY,
        answers=(201,),
        errors=(NotFound, RequestInvalid, RequestTimeout),
        content=MADE,
        body=WANTED,
    ),
)
async def post(request: Request) -> Response:
    """Make a key and tell its secret, which is not shown again."""
    manager, run = _manager(request), context_of(request).run
    wanted = _wanted(await document_of(request, MAX_BODY))
    owner = wanted["owner"] if "owner" in wanted else _own(manager)
    if not manager.is_admin and owner != manager.user:
        raise Denied("a key for another user, or for none, is made by an administrator")
    try:
        secret, key = await run(
            manager.keys.create,
            owner=owner,
            repositories=wanted.get("repositories", []),
            actions=wanted.get("actions", []),
            days=wanted.get("days"),
            description=wanted.get("description", ""),
            most=None if manager.is_admin else MOST_OF_ONE,
        )
    except TooManyKeys as error:
        raise Denied(str(error)) from error
    except AccountError as error:
        raise RequestInvalid(str(error)) from error
    made = key.document()
    context_of(request).audit.note(
        request.scope, Event.KEY_CREATED, key=made["id"], owner=made["owner"], expires=made["expires"]
    )
    location = context_of(request).urls.url(request, f"{ROUTE}/{key.record.key_id}")
    return _json({"secret": secret.text, **key.document()}, 201, {"Location": location})


@router.get(f"{ROUTE}/{{key}}", **operation(Action.IDENTITY, KEY, answers=(200,), errors=(NotFound,), content=SHOWN))
async def get(request: Request) -> Response:
    """Show a key of the caller, or for administrators any."""
    _, key = await _found(request)
    return _json(key.document())


@router.delete(f"{ROUTE}/{{key}}", **operation(Action.IDENTITY, KEY, answers=(204,), errors=(NotFound,)))
async def delete(request: Request) -> Response:
    """Revoke a key and its tokens: every process refuses them within a second."""
    manager, key = await _found(request)
    if not await context_of(request).run(manager.keys.revoke, key.record.key_id):
        raise NotFound(NONE)  # another request was faster
    context_of(request).audit.note(request.scope, Event.KEY_REVOKED, key=key.record.key_id, owner=key.record.owner)
    return Response(status_code=204, headers=NOT_STORED)


def _manager(request: Request) -> _Manager:
    """Raise NotFound without API keys, and Denied for a caller that has none and is no administrator."""
    context = context_of(request)
    authentication, rights = context.authentication, context.access.rights
    if authentication is None or authentication.keys is None or rights is None:
        raise NotFound("API keys are not in use here")
    identity = caller_of(request.scope).identity
    user, is_admin = _user(identity), rights.is_admin(identity)
    if user is None and not is_admin:
        raise Denied(
            "API keys belong to users of auth.htpasswd, which make them with their password or in their browser, never"
            " with a token or another key; an administrator makes keys for the rest"
        )
    return _Manager(authentication.keys, user, is_admin)


def _user(identity: Identity) -> str | None:
    """The user that an identity is, with all of its rights; None if it is none, or has a part of them."""
    return identity.name if identity.kind is Kind.USER and identity.scope is None else None


def _own(manager: _Manager) -> str:
    """Raise Denied for an administrator without keys of its own."""
    if manager.user is None:
        raise Denied("only users of auth.htpasswd have keys of their own; name an owner, or ask for all")
    return manager.user


async def _found(request: Request) -> tuple[_Manager, ListedKey]:
    """The key of the path. Raises NotFound: a key of another user is as one that is not there."""
    manager = _manager(request)
    key = await context_of(request).run(manager.keys.find, request.path_params["key"])
    if key is None or not manager.may_manage(key):
        raise NotFound(NONE)
    return manager, key


def _wanted(document: dict[str, Any]) -> dict[str, Any]:
    """The members of a request for a key. Raises RequestInvalid for one that is unknown or of another kind."""
    checks: dict[str, Callable[[object], bool]] = {
        "owner": lambda value: value is None or isinstance(value, str),
        "repositories": _is_texts,
        "actions": _is_texts,
        "days": lambda value: isinstance(value, int) and not isinstance(value, bool),
        "description": lambda value: isinstance(value, str),
    }
    for name, value in document.items():
        if name not in checks:
            raise RequestInvalid(f"{name[:40]!a} is no member of a request for a key: {', '.join(checks)}")
        if not checks[name](value):
            raise RequestInvalid(f"{name} is of another kind than it must be")
    return document


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _json(document: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), status, {**NOT_STORED, **(headers or {})}, media_type="application/json")

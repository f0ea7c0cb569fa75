"""Token: ``/auth/token``, where clients get the tokens that they send with requests.

(distribution, "Token Authentication Specification"; RFC 6749.) Older clients ask by GET with Basic credentials, those
of OAuth 2 by POST with a form, some by POST first and by GET after any refusal. No answer sets a cookie or is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from registry.api.access import CLAIMED, Action, caller_of
from registry.api.http.operations import ACCOUNT, CLIENT, OFFLINE, SCOPE, SERVICE, json_object, operation
from registry.api.http.routing import OciRoute, context_of
from registry.api.http.small_body import FORM, form_of
from registry.auth.credentials import Basic, Bearer, credentials_of
from registry.auth.identity import ANONYMOUS
from registry.observability.audit import Event
from registry.oci.errors import (
    GrantInvalid,
    GrantUnsupported,
    MalformedRequest,
    NotFound,
    RequestInvalid,
    RequestTimeout,
    Unauthorized,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Mapping, Sequence

    from registry.auth.identity import Identity
    from registry.auth.tokens.service import Reply, TokenService

ROUTE: Final = "/auth/token"
MAX_BODY: Final = 64 << 10
"""Bytes of a form."""
EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
EXCHANGED: Final = {
    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "token_type": "Bearer",
}
NOT_STORED: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="registry", charset="UTF-8"'}
ERRORS: Final = (GrantInvalid, MalformedRequest, Unauthorized, NotFound)
CONTENT: Final = json_object(
    token={"type": "string"}, access_token={"type": "string"}, expires_in={"type": "integer"}, scope={"type": "string"}
)

router = APIRouter(route_class=OciRoute, tags=["Token"])


@router.get(
    ROUTE,
    **operation(Action.NONE, SERVICE, SCOPE, ACCOUNT, CLIENT, OFFLINE, answers=(200,), errors=ERRORS, content=CONTENT),
)
async def get(request: Request) -> Response:
    """Give a token for Basic credentials, or for a certificate, or an anonymous one for none."""
    return await _answer(_by_basic(request))


@router.post(
    ROUTE,
    **operation(Action.NONE, answers=(200,), errors=(*ERRORS, RequestTimeout), content=CONTENT, body=FORM),
)
async def post(request: Request) -> Response:
    """Give a token for the password, the refresh token or the token of an identity provider in a form."""
    return await _answer(_by_form(request))


async def _answer(replying: Coroutine[object, object, Reply]) -> Response:
    try:
        reply = await replying
    except Unauthorized as error:
        error.headers.update(CHALLENGE | NOT_STORED)
        raise
    return Response(orjson.dumps(reply), headers=NOT_STORED, media_type="application/json")


async def _by_basic(request: Request) -> Reply:
    service, identity = _service_of(request), await _of_basic(request)
    query = request.query_params
    return await _reply(
        request, service, identity, query.getlist("scope"), offline=query.get("offline_token") == "true"
    )


async def _of_basic(request: Request) -> Identity:
    try:
        credentials = credentials_of(request.headers.raw)
    except Unauthorized:
        request.scope[CLAIMED] = None
        raise
    if isinstance(credentials, Bearer):
        request.scope[CLAIMED] = credentials
        raise Unauthorized("a token is given for a user and a password, never for another token")
    return await _of_password(request, credentials)


async def _by_form(request: Request) -> Reply:
    service, form, run = _service_of(request), await _form_of(request), context_of(request).run
    scopes = form.get("scope", [])
    match _value(form, "grant_type"):
        case "password":
            user, password = _value(form, "username"), _value(form, "password")
            identity = await _of_password(request, Basic(user, password) if user or password else None)
            return await _reply(request, service, identity, scopes, offline=_value(form, "access_type") == "offline")
        case "refresh_token":
            token = _value(form, "refresh_token")
            identity = await _proved(request, Bearer(token), run(service.refresh, token))
            return await _reply(request, service, identity, scopes)
        case grant if grant == EXCHANGE:
            token = _value(form, "subject_token")
            identity = await _proved(request, Bearer(token), run(service.exchange, token))
            return await _reply(request, service, identity, scopes) | EXCHANGED
        case _:
            raise GrantUnsupported


async def _reply(
    request: Request, service: TokenService, identity: Identity, scopes: Sequence[str], *, offline: bool = False
) -> Reply:
    context = context_of(request)
    reply = await context.run(service.reply, identity, scopes, offline=offline)
    if not identity.is_anonymous:  # a token of an anonymous caller is a part of each pull
        context.audit.note(request.scope, Event.TOKEN, identity=identity, scope=reply["scope"])
    return reply


def _service_of(request: Request) -> TokenService:
    """Raise NotFound where no authentication is configured."""
    service = context_of(request).token_service
    if service is None:
        raise NotFound
    return service


async def _of_password(request: Request, credentials: Basic | None) -> Identity:
    caller = caller_of(request.scope)
    if credentials is None:
        return caller.certified or ANONYMOUS
    verifying = _service_of(request).authenticate(credentials, caller.address)
    return await _proved(request, credentials, verifying)


async def _proved(request: Request, credentials: Basic | Bearer, proving: Awaitable[Identity]) -> Identity:
    """The identity that credentials prove. Those that are wrong are noted for the audit log. Raises Unauthorized."""
    try:
        return await proving
    except Unauthorized:
        request.scope[CLAIMED] = credentials
        raise


async def _form_of(request: Request) -> Mapping[str, Sequence[str]]:
    """The form in the body. Raises GrantInvalid, Interrupted."""
    try:
        return await form_of(request, MAX_BODY)
    except RequestInvalid as error:
        raise GrantInvalid(error.message, headers=error.headers) from error


def _value(form: Mapping[str, Sequence[str]], name: str) -> str:
    """A field that may be there once; empty if it is not there. Raises GrantInvalid."""
    values = form.get(name, [""])
    if len(values) > 1:
        raise GrantInvalid(f"the form has {name} more than once")
    return values[0]

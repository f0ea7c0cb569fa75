"""Token: ``/auth/token``, where clients get the tokens that they send with requests.

(distribution, "Token Authentication Specification"; RFC 6749.) Older clients ask by GET with Basic credentials, those
of OAuth 2 by POST with a form, some by POST first and by GET after any refusal. No answer sets a cookie or is stored.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from registry.api.access import Action, caller_of
from registry.api.http.operations import ACCOUNT, CLIENT, OFFLINE, SCOPE, SERVICE, json_object, operation
from registry.api.http.request_body import Body, Interrupted
from registry.api.http.routing import OciRoute, context_of
from registry.auth.credentials import Basic, Bearer, credentials_of
from registry.auth.identity import ANONYMOUS
from registry.oci.errors import (
    GrantInvalid,
    GrantUnsupported,
    MalformedRequest,
    NotFound,
    RequestTimeout,
    Unauthorized,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from registry.auth.identity import Identity
    from registry.auth.tokens.service import Reply, TokenService

ROUTE: Final = "/auth/token"
MAX_BODY: Final = 64 << 10
"""Bytes of a form."""
MAX_FIELDS: Final = 1000
EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
FORM: Final = "application/x-www-form-urlencoded"
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
    """Give a token for Basic credentials, or an anonymous one for none."""
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
    service, credentials = _service_of(request), credentials_of(request.headers.raw)
    if isinstance(credentials, Bearer):
        raise Unauthorized("a token is given for a user and a password, never for another token")
    identity = await _identity(request, service, credentials)
    query = request.query_params
    offline = query.get("offline_token") == "true"
    return await context_of(request).run(service.reply, identity, query.getlist("scope"), offline=offline)


async def _by_form(request: Request) -> Reply:
    service, form, run = _service_of(request), await _form_of(request), context_of(request).run
    scopes = form.get("scope", [])
    match _value(form, "grant_type"):
        case "password":
            user, password = _value(form, "username"), _value(form, "password")
            identity = await _identity(request, service, Basic(user, password) if user or password else None)
            offline = _value(form, "access_type") == "offline"
            return await run(service.reply, identity, scopes, offline=offline)
        case "refresh_token":
            return await run(service.refreshed, _value(form, "refresh_token"), scopes)
        case grant if grant == EXCHANGE:
            return await run(service.exchanged, _value(form, "subject_token"), scopes)
        case _:
            raise GrantUnsupported


def _service_of(request: Request) -> TokenService:
    """Raise NotFound where no authentication is configured."""
    service = context_of(request).token_service
    if service is None:
        raise NotFound
    return service


async def _identity(request: Request, service: TokenService, credentials: Basic | None) -> Identity:
    if credentials is None:
        return ANONYMOUS
    return await service.authenticate(credentials, caller_of(request.scope).address)


async def _form_of(request: Request) -> Mapping[str, Sequence[str]]:
    """The form in the body. Raises GrantInvalid; Interrupted when it does not arrive in one time without a byte."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise GrantInvalid(f"the Content-Type is not {FORM}")
    seconds = context_of(request).settings.http.idle_timeout
    body = Body(request, seconds)
    try:
        async with asyncio.timeout(seconds):
            await body.gather(MAX_BODY + 1)
    except TimeoutError as error:
        raise Interrupted(timed_out=True) from error
    if body.gathered > MAX_BODY:
        raise GrantInvalid(f"the form has more than {MAX_BODY} bytes", headers={"Connection": "close"})
    try:
        return parse_qs(body.take().decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as error:  # too many fields, or no UTF-8
        raise GrantInvalid("the form cannot be read") from error


def _value(form: Mapping[str, Sequence[str]], name: str) -> str:
    """A field that may be there once; empty if it is not there. Raises GrantInvalid."""
    values = form.get(name, [""])
    if len(values) > 1:
        raise GrantInvalid(f"the form has {name} more than once")
    return values[0]

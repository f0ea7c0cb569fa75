"""*Login*: ``/auth/login``, ``/auth/callback`` and ``/auth/logout``, which begin and end the session of a browser.

A provider's users come back from it by ``/auth/callback``; users with a password fill in a form. All of it works
without scripts. A cookie that a browser keeps proves that a form was shown to it, and that it began a login; where its
request says that it comes from another site, nothing is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import RedirectResponse, Response

from registry.admin.cookies import FORM, LOGIN, SESSION, clear_cookie, find_cookie, set_cookie
from registry.admin.origin import require_own_origin
from registry.admin.routing import find_session
from registry.api.access import CLAIMED, Action, caller_of
from registry.api.http.routing import ACTION, context_of
from registry.api.http.small_body import form_of
from registry.auth.browser import attempt, sessions
from registry.auth.browser.destination import check_destination
from registry.auth.browser.login_provider import ProviderAnswer
from registry.auth.credentials import Basic
from registry.oci.errors import Denied, MalformedRequest, NotFound, RequestInvalid, TooManyRequests, Unauthorized
from registry.web import page_routing
from registry.web.login_page import HEADERS, LoginForm, left_page, login_page, session_page
from registry.web.page_routing import PageRoute, page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry.auth.browser.logins import Logins

ROUTE: Final = page_routing.LOGIN
CALLBACK: Final = "/auth/callback"
LOGOUT: Final = "/auth/logout"
MAX_BODY: Final = 16 << 10
"""Bytes of a form."""
LONGEST: Final = 4 << 10
"""Characters of one part of what a provider answers."""
SEE_OTHER: Final = 303
SIGNED: Final = {ACTION: Action.NONE}

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get(ROUTE, openapi_extra=SIGNED)
async def show(request: Request) -> Response:
    """Show the ways to log in, or as which identity the browser is logged in; with `provider`, begin a login there."""
    logins = _logins_of(request)
    destination = check_destination(_parameter(request, "next") or ROUTE)
    provider = _parameter(request, "provider")
    if provider:
        return await _begin(request, logins, provider, destination)
    session = await find_session(request)
    if session is None:
        return await _offer(request, logins, destination)
    identity, urls = session.identity, context_of(request).urls
    html = session_page(identity.who, sorted(identity.groups), urls.url(request, LOGOUT), session.form_token)
    return page(html)


@router.post(ROUTE, openapi_extra=SIGNED)
async def log_in(request: Request) -> Response:
    """Begin a session for the user and password of the form."""
    logins, run = _logins_of(request), context_of(request).run
    require_own_origin(request, is_named=True)
    form = await form_of(request, MAX_BODY)
    destination = check_destination(_field(form, "next") or ROUTE)
    await run(logins.check_form, find_cookie(request, FORM), _field(form, "token"))
    credentials = Basic(_field(form, "user"), _field(form, "password"))
    try:
        identity = await logins.verify_password(credentials, caller_of(request.scope).address)
    except Unauthorized as error:
        request.scope[CLAIMED] = credentials
        context_of(request).audit.refuse(request.scope, error)
        context_of(request).challenges.add(request, error)
        return await _offer(request, logins, destination, error)
    secret = await run(logins.sessions.begin, identity, None, find_cookie(request, SESSION))
    answer = _entered(request, secret, destination)
    clear_cookie(request, answer, FORM)
    return answer


@router.get(CALLBACK, openapi_extra=SIGNED)
async def come_back(request: Request) -> Response:
    """Begin a session for what the browser brings from the provider."""
    logins = _logins_of(request)
    try:
        entry = await context_of(request).run(
            logins.finish,
            find_cookie(request, LOGIN),
            ProviderAnswer(*(_parameter(request, name) for name in ("code", "state", "iss", "error"))),
            _redirect_uri(request),
            address=caller_of(request.scope).address,
            former=find_cookie(request, SESSION),
        )
    except (Unauthorized, Denied, TooManyRequests):
        request.scope[CLAIMED] = None  # the audit log has it as a login that failed
        raise
    answer = _entered(request, entry.secret, entry.destination)
    clear_cookie(request, answer, LOGIN)
    return answer


@router.post(LOGOUT, openapi_extra=SIGNED)
async def log_out(request: Request) -> Response:
    """End the session of the browser, in every process; its page leads to the logout of its provider, if there is one.

    It is a link and no redirection, which browsers refuse to a form that may be sent to this registry alone.
    """
    logins = _logins_of(request)
    require_own_origin(request, is_named=True)
    session, left = await find_session(request), None
    if session is not None:
        logins.check_session(session, _field(await form_of(request, MAX_BODY), "token"))
        left = await context_of(request).run(logins.end, session, find_cookie(request, SESSION))
    login = context_of(request).urls.url(request, ROUTE)
    answer = _redirection(login) if left is None else page(left_page(left.name, left.address, login))
    clear_cookie(request, answer, SESSION)
    return answer


async def _begin(request: Request, logins: Logins, provider: str, destination: str) -> Response:
    redirection = await context_of(request).run(logins.start, provider, destination, _redirect_uri(request))
    answer = _redirection(redirection.address)
    set_cookie(request, answer, LOGIN, redirection.sealed, attempt.SECONDS)
    return answer


async def _offer(request: Request, logins: Logins, destination: str, refusal: Unauthorized | None = None) -> Response:
    context, token, sealed = context_of(request), None, ""
    if logins.has_passwords:
        shown, sealed = await context.run(logins.form, find_cookie(request, FORM))
        token = shown.form_token
    form = LoginForm(context.urls.url(request, ROUTE), destination, logins.providers, token)
    if refusal is None:
        answer = page(login_page(form))
    else:
        answer = page(login_page(form, refusal.message), refusal.status, refusal.headers)
    if sealed:
        set_cookie(request, answer, FORM, sealed, attempt.SECONDS)
    return answer


def _entered(request: Request, secret: str, destination: str) -> Response:
    answer = _redirection(context_of(request).urls.url(request, destination))
    set_cookie(request, answer, SESSION, secret, int(sessions.SECONDS))
    return answer


def _redirection(address: str) -> Response:
    return RedirectResponse(address, SEE_OTHER, HEADERS)


def _logins_of(request: Request) -> Logins:
    """Raise NotFound where there is no way to log in."""
    authentication = context_of(request).authentication
    if authentication is None or authentication.logins is None:
        raise NotFound("no login in a browser is configured: there is neither auth.htpasswd nor login of auth.oidc")
    return authentication.logins


def _redirect_uri(request: Request) -> str:
    """Where a provider sends the browser back to: by the name by which it has called. Raises MalformedRequest."""
    address = context_of(request).urls.absolute(request, CALLBACK)
    if "://" not in address:
        raise MalformedRequest("the request has no Host")
    return address


def _parameter(request: Request, name: str) -> str:
    """A parameter of the query that may be there once; empty if it is not there. Raises RequestInvalid."""
    return _once(name, request.query_params.getlist(name))


def _field(form: Mapping[str, Sequence[str]], name: str) -> str:
    """A field of a form that may be there once; empty if it is not there. Raises RequestInvalid."""
    return _once(name, form.get(name, ()))


def _once(name: str, values: Sequence[str]) -> str:
    if len(values) > 1 or any(len(value) > LONGEST for value in values):
        raise RequestInvalid(f"{name} is there more than once, or has more than {LONGEST} characters")
    return values[0] if values else ""

"""*Login page*: HTML for logging in and out, and for what went wrong. It has no script and asks no other host.

Tests: ``tests/web/test_login.py``.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 24rem; margin: 10vh auto; padding: 0 1rem; }
label { display: block; margin: .8rem 0 .2rem; }
input, button, a.provider { font: inherit; box-sizing: border-box; width: 100%; padding: .5rem; border-radius: 6px; }
input { border: 1px solid GrayText; }
button, a.provider { display: block; margin: 1rem 0; border: 1px solid; text-align: center; cursor: pointer; }
[role=alert] { border-left: 4px solid; padding-left: .6rem; }
"""
_HASH: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class LoginForm(NamedTuple):
    """What a browser is offered."""

    action: str
    """The address of the form, and of the links to providers."""
    destination: str
    providers: Sequence[str]
    token: str | None
    """What the form has to have; None if users log in with no password."""


def login_page(form: LoginForm, problem: str = "") -> str:
    """The ways to log in; ``problem`` is what was wrong with the last one."""
    return _page("Log in", _login(form, problem))


def session_page(who: str, groups: Sequence[str], logout: str, token: str) -> str:
    """As which identity a browser is logged in, with a button to log out, whose form goes to ``logout``."""
    return _page("Logged in", _session(who, groups, logout, token))


def left_page(provider: str, logout: str, login: str) -> str:
    """A browser is logged out here, and at ``provider`` by a link to ``logout``; ``login`` is the way back."""
    parts = (
        f"<p>This browser is logged out here. At {escape(provider)} it is still logged in.</p>",
        f'<a class="provider" href="{escape(logout)}">Log out at {escape(provider)} too</a>',
        f'<p><a href="{escape(login)}">Log in</a></p>',
    )
    return _page("Logged out", iter(parts))


def error_page(message: str, login: str) -> str:
    """Why something cannot be done, and the way back to ``login``."""
    parts = (f'<p role="alert">{escape(message)}</p>', f'<p><a href="{escape(login)}">Log in</a></p>')
    return _page("This did not work", iter(parts))


def _login(form: LoginForm, problem: str) -> Iterator[str]:
    if problem:
        yield f'<p role="alert">{escape(problem)}</p>'
    for provider in form.providers:
        asked = urlencode({"provider": provider, "next": form.destination})
        yield f'<a class="provider" href="{escape(form.action)}?{escape(asked)}">Log in with {escape(provider)}</a>'
    if form.token is None:
        return
    yield f'<form method="post" action="{escape(form.action)}">'
    yield f'<input type="hidden" name="token" value="{escape(form.token)}">'
    yield f'<input type="hidden" name="next" value="{escape(form.destination)}">'
    yield '<label for="user">User</label>'
    yield '<input id="user" name="user" autocomplete="username" autocapitalize="none" spellcheck="false" required>'
    yield '<label for="password">Password</label>'
    yield '<input id="password" name="password" type="password" autocomplete="current-password" required>'
    yield "<button>Log in</button></form>"


def _session(who: str, groups: Sequence[str], logout: str, token: str) -> Iterator[str]:
    yield f"<p>This browser is logged in as <strong>{escape(who)}</strong>.</p>"
    if groups:
        yield f"<p>Groups: {escape(', '.join(groups))}</p>"
    yield f'<form method="post" action="{escape(logout)}">'
    yield f'<input type="hidden" name="token" value="{escape(token)}"><button>Log out</button></form>'


def _page(title: str, parts: Iterator[str]) -> str:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title} · Stowage</title>'
    body = f"<main><h1>{title}</h1>{''.join(parts)}</main>"
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>'

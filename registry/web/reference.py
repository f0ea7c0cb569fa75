"""Reference: the operations of the HTTP API on one page, made from the OpenAPI document.

The page has no script and asks no other host: it works without internet, under any content security policy.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import HTMLResponse, JSONResponse

from registry.admin.routing import AdminRoute
from registry.api.access import Action
from registry.api.http.routing import ACTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

router = APIRouter(route_class=AdminRoute, include_in_schema=False)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code { font-family: ui-monospace, monospace; }
details { border: 1px solid #8884; border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
.method { display: inline-block; font-weight: 600; min-width: 4.5rem; }
table { border-collapse: collapse; margin: .6rem 0; width: 100%; }
td, th { border-top: 1px solid #8884; padding: .2rem .6rem .2rem 0; text-align: left; vertical-align: top; }
:root { color-scheme: light dark; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


DOCUMENTED = {ACTION: Action.IDENTITY}
"""Where there are identities, the document is for them alone."""


@router.head("/api/openapi.json", openapi_extra=DOCUMENTED)
@router.get("/api/openapi.json", openapi_extra=DOCUMENTED)
async def document(request: Request) -> JSONResponse:
    """Give the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/api/docs", openapi_extra=DOCUMENTED)
async def reference(request: Request) -> HTMLResponse:
    """Show what the OpenAPI document says, for people."""
    page = "".join(_page(request.app.openapi()))
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    information = document["info"]
    title = escape(information["title"])
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: HTTP API</title>'
    yield f"<style>{_STYLE}</style></head><body><h1>{title}: HTTP API</h1>"
    yield f"<p>{escape(information.get('description', ''))}</p>"
    yield '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>'
    for tag, operations in _by_tag(document["paths"]).items():
        yield f"<h2>{escape(tag)}</h2>"
        for method, path, operation in operations:
            yield from _operation(method, path, operation)
    yield "</body></html>"


def _by_tag(paths: Mapping[str, Any]) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    found: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, operations in paths.items():
        for method, operation in operations.items():
            tag = next(iter(operation.get("tags", ())), "other")
            found.setdefault(tag, []).append((method.upper(), path, operation))
    return found


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    description = operation.get("description") or operation.get("summary", "")
    yield f'<details><summary><span class="method">{method}</span> <code>{escape(path)}</code><br>'
    yield f"{escape(description.splitlines()[0] if description else '')}</summary>"
    if "x-action" in operation:
        yield f"<p>Needs the right <code>{escape(operation['x-action'])}</code>.</p>"
    yield from _table("Parameters", map(_parameter, operation.get("parameters", ())))
    yield from _table("Answers", ((code, says["description"]) for code, says in operation["responses"].items()))
    yield "</details>"


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, str]:
    return f"{parameter['name']} ({parameter['in']})", parameter.get("description", "")


def _table(title: str, rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    cells = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>" for name, text in rows)
    if cells:
        yield f"<table><thead><tr><th>{title}</th><th></th></tr></thead><tbody>{cells}</tbody></table>"

"""Structured logs on stderr: text on a terminal, JSON otherwise, one event per line."""

from __future__ import annotations

import logging
import sys
from typing import IO, TYPE_CHECKING, Literal

import orjson
import structlog

from registry.observability.escape import escape_controls
from registry.observability.request_log import LineWriter, RequestLog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

Form = Literal["auto", "text", "json"]
Level = Literal["debug", "info", "warning", "error"]

_NOISY = ("alembic", "asyncio", "httpx", "sqlalchemy")
"""Libraries whose informational lines tell an operator nothing."""


def configure_logging(form: Form, level: Level, stream: IO[str] | None = None) -> None:
    """Send every log of this process, ours and that of libraries, to ``stream`` (stderr) in one form.

    Timestamps are ISO 8601 in UTC. uvicorn's access log is off: ``RequestLog`` writes the requests.
    May be called again.
    """
    target = stream or sys.stderr
    chosen = resolve_form(form, target)
    ours: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    theirs: list[Processor] = [*ours, structlog.stdlib.ExtraAdder(), _drop_color]
    structlog.configure(
        processors=[*ours, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    render = _text_processors(colors=target.isatty()) if chosen == "text" else _json_processors()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=theirs, processors=render))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_number(level))
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()  # with any handler, even one that drops everything, uvicorn makes a record of each request
    access.setLevel(logging.CRITICAL + 1)
    access.propagate = False
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(_number(level), logging.WARNING))
    logging.captureWarnings(capture=True)


def resolve_form(form: Form, stream: IO[str]) -> Literal["text", "json"]:
    """``auto`` is text on a terminal and JSON otherwise."""
    if form == "auto":
        return "text" if stream.isatty() else "json"
    return form


def open_request_log(form: Form, level: Level, stream: IO[str] | None = None) -> RequestLog | None:
    """The log of requests on the same stream as all else, or None where ``level`` leaves them out."""
    if _number(level) > logging.INFO:
        return None
    target = stream or sys.stderr
    return RequestLog(LineWriter(target.fileno()), resolve_form(form, target))


def _number(level: Level) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _json_processors() -> list[Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_dumps),
    ]


def _dumps(value: object, **_options: object) -> str:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        return orjson.dumps({"event": repr(value)}).decode()


def _text_processors(*, colors: bool) -> list[Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _escape_values,
        structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0, pad_level=False
        ),
    ]


def _escape_values(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Text that came from outside must not begin a line of its own."""
    return {key: escape_controls(value) if isinstance(value, str) else value for key, value in event.items()}


def _drop_color(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Drop the second copy of its message that uvicorn adds, with escape sequences for terminals."""
    event.pop("color_message", None)
    return event

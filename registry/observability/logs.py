"""Logs: structured events on stderr, one a line, as text on a terminal and as JSON otherwise."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Literal

import orjson
import structlog

from registry.observability.bounded import bound_values
from registry.observability.line_writer import LineWriter
from registry.observability.outlet import Outlet, OutletStream
from registry.observability.request_line import render_json, render_terminal, render_text
from registry.observability.request_log import RequestLog
from registry.oci.escaping import escape_controls, escape_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from structlog.typing import EventDict, Processor

    from registry.observability.request_line import Render

Form = Literal["auto", "text", "json"]
Level = Literal["debug", "info", "warning", "error"]

_NOISY = ("alembic", "asyncio", "httpx", "sqlalchemy", "urllib3")
"""Libraries whose informational lines are of no use to an operator."""
_FIRST = ("timestamp", "level", "event", "logger")
"""The first fields of every line of JSON, in this order; lines of requests have no logger."""
GAP = "lines of the log were dropped: nothing read them in time"
_HANDSHAKE = ("Invalid HTTP request received.",)
"""uvicorn's message about TLS on the HTTP port, which crane and skopeo try at each first contact."""
_STEPS = ("Started ", "Waiting for application ", "Application ", "Uvicorn running on ", "Finished server process")
"""Beginnings of uvicorn's lines about starting and stopping; one line of ours replaces them."""


def configure_logging(form: Form, level: Level, outlet: Outlet | None = None) -> None:
    """Send every log of this process, ours and that of libraries, to stderr in one form.

    Timestamps are ISO 8601 in UTC. uvicorn's access log is off: ``RequestLog`` writes the requests. With ``outlet`` no
    thread waits for stderr, neither for a line of the log nor for an uncaught error. May be called again.
    """
    target = sys.stderr
    chosen = resolve_form(form, target)
    on_terminal = target.isatty()
    for_person = chosen == "text" and on_terminal
    ours: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_person else "iso", utc=not for_person),
    ]
    theirs: list[Processor] = [*ours, structlog.stdlib.ExtraAdder(), _drop_color]
    structlog.configure(
        processors=[*ours, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler: logging.StreamHandler[Any] = logging.StreamHandler(target if outlet is None else OutletStream(outlet))
    render = _text_processors(colors=on_terminal and _colors_wanted()) if chosen == "text" else _json_processors()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=theirs, processors=render))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_number(level))
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.filters[:] = [_lower(_HANDSHAKE + (_STEPS if for_person else ()))]
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()  # with any handler, even one that drops everything, uvicorn makes a record of each request
    access.setLevel(logging.CRITICAL + 1)
    access.propagate = False
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(_number(level), logging.WARNING))
    logging.captureWarnings(capture=True)
    if outlet is not None:
        outlet.gap = partial(_gap, handler)
        sys.unraisablehook, threading.excepthook = _log_unraisable, _log_uncaught


def resolve_form(form: Form, stream: IO[str]) -> Literal["text", "json"]:
    """``auto`` is text on a terminal and JSON otherwise."""
    if form == "auto":
        return "text" if stream.isatty() else "json"
    return form


def open_outlet() -> Outlet:
    """A way to stderr that never blocks; a process that serves has one."""
    stderr = sys.stderr.fileno()
    return Outlet(LineWriter(stderr), LineWriter.without_waiting(stderr))


def open_request_log(form: Form, level: Level, outlet: Outlet | None = None) -> RequestLog | None:
    """The log of requests, to the same stderr; None if ``level`` leaves requests out."""
    if _number(level) > logging.INFO:
        return None
    return RequestLog(outlet or LineWriter(sys.stderr.fileno()), _request_renderer(form, sys.stderr))


@contextmanager
def only_warnings(stream: IO[str]) -> Iterator[None]:
    """Inside the block the log goes to ``stream`` and has warnings and errors alone: a progress bar is being drawn."""
    before = [(handler, handler.level) for handler in logging.getLogger().handlers]
    streams = [
        (handler, handler.setStream(stream)) for handler, _level in before if isinstance(handler, logging.StreamHandler)
    ]
    for handler, level in before:
        handler.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        for handler, level in before:
            handler.setLevel(level)
        for handler, former in streams:
            if former is not None:
                handler.setStream(former)


def _request_renderer(form: Form, target: IO[str]) -> Render:
    if resolve_form(form, target) == "json":
        return render_json
    return render_terminal(colors=_colors_wanted()) if target.isatty() else render_text


def _colors_wanted() -> bool:
    """See no-color.org."""
    return not os.environ.get("NO_COLOR")


def _lower(messages: tuple[str, ...]) -> Callable[[logging.LogRecord], bool]:
    """A filter that makes what begins like one of these, and what the end of a drain cuts, a line of the level debug.

    It says whether that is logged.
    """

    def lower(record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(messages) or _was_cut(record):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
            return logging.getLogger().isEnabledFor(logging.DEBUG)
        return True

    return lower


def _was_cut(record: logging.LogRecord) -> bool:
    """Whether a request was cancelled: uvicorn counts those in a line of its own, and adds the trace of each."""
    kind = record.exc_info[0] if isinstance(record.exc_info, tuple) else None
    return kind is not None and kind.__name__ == "CancelledError"


def _gap(handler: logging.Handler, lines: int) -> bytes:
    """The line that says how many are missing."""
    fields = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": GAP, "lines": lines}
    return f"{handler.format(logging.makeLogRecord(fields))}\n".encode(errors="backslashreplace")


def _log_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Log what Python would print: it would wait for stderr, in the thread of the event loop perhaps."""
    error = unraisable.exc_value
    logging.getLogger(__name__).error("an exception was ignored", exc_info=error, extra={"where": unraisable.object})


def _log_uncaught(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is not SystemExit:
        name = arguments.thread.name if arguments.thread is not None else None
        logging.getLogger(__name__).error("a thread has ended", exc_info=arguments.exc_value, extra={"where": name})


def _number(level: Level) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _json_processors() -> list[Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        bound_values,
        _order,
        structlog.processors.JSONRenderer(serializer=_dumps),
    ]


def _order(_logger: object, _name: str, event: EventDict) -> EventDict:
    first = [name for name in _FIRST if name in event]
    return {name: event[name] for name in (*first, *event)}


def _dumps(value: object, **_options: object) -> str:
    try:
        return escape_json(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)).decode()
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        return escape_json(orjson.dumps({"event": repr(value)})).decode()


def _text_processors(*, colors: bool) -> list[Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        bound_values,
        _escape_values,
        _drop_own_name,
        structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0, pad_level=False
        ),
    ]


def _escape_values(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Escape text from outside, so that it cannot begin a line of its own."""
    return {key: escape_controls(value) if isinstance(value, str) else value for key, value in event.items()}


def _drop_own_name(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Drop the logger's name from our own lines, and keep the names of libraries."""
    if str(event.get("logger")).startswith("registry."):
        del event["logger"]
    return event


def _drop_color(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Drop the second copy of its message that uvicorn adds, with escape sequences for terminals."""
    event.pop("color_message", None)
    return event

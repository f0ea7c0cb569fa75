"""*Expectation*: a body that its client holds back until it is told to send it (RFC 9110, section 10.1.1).

Tests: ``tests/server/test_protocol.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn._types import ASGISendEvent
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_CLOSING = (b"connection", b"close")


def end_where_it_is_not_met(cycle: RequestResponseCycle, has_come: Callable[[], bool]) -> None:
    """Make the answer the last of its connection, unless the body was asked for or ``has_come`` in part.

    Its client may send the body all the same, or leave it out: what follows would be that, or another request.
    """
    pass_on = cycle.send

    async def send(message: ASGISendEvent) -> None:
        if (
            message["type"] == "http.response.start"
            and cycle.waiting_for_100_continue
            and cycle.more_body
            and not has_come()
        ):
            message = {**message, "headers": [*message.get("headers", ()), _CLOSING]}
        await pass_on(message)

    cycle.send = send  # type: ignore[method-assign]

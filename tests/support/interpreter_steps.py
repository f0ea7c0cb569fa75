"""Steps of the interpreter: what a call costs, counted, so that no busy machine changes it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class Steps(NamedTuple):
    """What one call did."""

    instructions: int
    """Instructions of bytecode that the interpreter carries out, in it and in what it calls."""
    calls: int
    """How often it calls a function; those written in C count too."""


def steps(run: Callable[[], object]) -> Steps:
    """What ``run`` costs, the second time that it runs: the first one may fill caches."""
    run()
    return Steps(_instructions(run), _calls(run))


def _instructions(run: Callable[[], object]) -> int:
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def _calls(run: Callable[[], object]) -> int:
    count = 0

    def profile(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count

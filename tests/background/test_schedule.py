"""The schedule: jobs run again and again, a failure ends none, and rest follows work."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING, cast

from structlog.testing import capture_logs

from registry.background.schedule import Job, Schedule
from registry.database.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.background.leases import Leases


def stop(schedule: Schedule) -> None:
    schedule.stop(60)
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"job", "other"}


def test_a_job_without_its_store_logs_one_line_each_time_and_rests_longer_and_longer() -> None:
    times: list[float] = []

    def fail() -> None:
        times.append(time.monotonic())
        raise DatabaseUnavailable("it does not answer\n")

    with capture_logs() as lines:
        schedule = Schedule([Job("job", fail, 0.01)])
        schedule.start()
        deadline = time.monotonic() + 60
        while len(times) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        stop(schedule)
    assert times[1] - times[0] >= 1
    assert times[2] - times[1] >= 2
    assert 2 <= len(lines) <= 3
    for line in lines:
        assert (line["log_level"], line["job"], line["reason"]) == ("warning", "job", "it does not answer")
        assert "exc_info" not in line


def test_a_job_that_raises_runs_again_and_does_not_disturb_other_jobs() -> None:
    again, other = threading.Semaphore(0), threading.Semaphore(0)

    def fail() -> None:
        again.release()
        raise KeyError("job")

    schedule = Schedule([Job("job", fail, 0.01), Job("other", other.release, 0.01)])
    schedule.start()
    for _ in range(2):
        assert again.acquire(timeout=60)
        assert other.acquire(timeout=60)
    stop(schedule)


def test_a_job_that_waits_runs_when_it_is_woken_and_now_and_then() -> None:
    wake, ran = threading.Event(), threading.Semaphore(0)

    def run() -> None:
        wake.clear()
        ran.release()

    schedule = Schedule([Job("job", run, 0.0, wake=wake, idle=60)])
    schedule.start()
    assert not ran.acquire(timeout=0.1)
    wake.set()
    assert ran.acquire(timeout=60)
    stop(schedule)
    schedule = Schedule([Job("job", run, 0.0, wake=threading.Event(), idle=0.01)])
    schedule.start()
    assert ran.acquire(timeout=60)
    stop(schedule)


class OneLease:
    """Leases of which one is free as long as the test says so."""

    def __init__(self) -> None:
        self.is_free = True
        self.asked: list[str] = []

    @contextlib.contextmanager
    def hold(self, name: str, _seconds: float) -> Iterator[bool]:
        """See Leases."""
        self.asked.append(name)
        yield self.is_free


def test_a_job_is_left_out_while_another_process_holds_its_lease() -> None:
    leases, ran = OneLease(), threading.Semaphore(0)
    schedule = Schedule([Job("job", ran.release, 0.01, lease="named")], cast("Leases", leases))
    schedule.start()
    assert ran.acquire(timeout=60)
    leases.is_free = False
    while ran.acquire(timeout=0.2):
        pass
    asked = len(leases.asked)
    deadline = time.monotonic() + 60
    while len(leases.asked) < asked + 3:
        assert time.monotonic() < deadline, "it looks again"
        time.sleep(0.01)
    assert not ran.acquire(blocking=False)
    leases.is_free = True
    assert ran.acquire(timeout=60)
    stop(schedule)
    assert set(leases.asked) == {"named"}


def test_a_job_that_is_not_needed_takes_no_lease_and_is_looked_at_after_a_while() -> None:
    leases, looks = OneLease(), list[float]()

    def is_needed() -> bool:
        looks.append(time.monotonic())
        return len(looks) == 1

    job = Job("job", lambda: None, 0.01, idle=0.2, lease="named", is_needed=is_needed)
    schedule = Schedule([job], cast("Leases", leases))
    schedule.start()
    deadline = time.monotonic() + 60
    while len(looks) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop(schedule)
    assert leases.asked == ["named"]
    assert all(after - before >= 0.2 for before, after in itertools.pairwise(looks[1:]))


def test_a_job_takes_no_more_than_its_share_of_a_core() -> None:
    runs: list[float] = []

    def work() -> None:
        runs.append(time.monotonic())
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass

    schedule = Schedule([Job("job", work, 0.0, share=0.25)])
    schedule.start()
    deadline = time.monotonic() + 60
    while len(runs) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop(schedule)
    assert all(after - before >= 0.19 for before, after in itertools.pairwise(runs))
    assert len(runs) >= 3


def test_stopping_does_not_wait_for_ever_for_a_job() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        go_on.wait(90)

    schedule = Schedule([Job("job", hang, 0.0)])
    schedule.start()
    assert inside.wait(60)
    began = time.monotonic()
    schedule.stop(0.1)
    assert time.monotonic() - began < 60
    go_on.set()
    schedule.stop(60)

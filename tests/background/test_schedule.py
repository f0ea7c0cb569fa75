"""The schedule: jobs run again and again, a failure ends none, and rest follows work."""

from __future__ import annotations

import itertools
import threading
import time

from structlog.testing import capture_logs

from registry.background.schedule import Job, Schedule
from registry.database.errors import DatabaseUnavailable


def stop(schedule: Schedule) -> None:
    schedule.stop(5)
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
        deadline = time.monotonic() + 20
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
        assert again.acquire(timeout=5)
        assert other.acquire(timeout=5)
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
    assert ran.acquire(timeout=5)
    stop(schedule)
    schedule = Schedule([Job("job", run, 0.0, wake=threading.Event(), idle=0.01)])
    schedule.start()
    assert ran.acquire(timeout=5)
    stop(schedule)


def test_a_job_takes_no_more_than_its_share_of_a_core() -> None:
    runs: list[float] = []

    def work() -> None:
        runs.append(time.monotonic())
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass

    schedule = Schedule([Job("job", work, 0.0, share=0.25)])
    schedule.start()
    deadline = time.monotonic() + 10
    while len(runs) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop(schedule)
    assert all(after - before >= 0.19 for before, after in itertools.pairwise(runs))
    assert len(runs) >= 3


def test_stopping_does_not_wait_for_ever_for_a_job() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        go_on.wait(10)

    schedule = Schedule([Job("job", hang, 0.0)])
    schedule.start()
    assert inside.wait(5)
    began = time.monotonic()
    schedule.stop(0.1)
    assert time.monotonic() - began < 5
    go_on.set()
    schedule.stop(5)

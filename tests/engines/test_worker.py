"""The thread that owns an engine: what callers get, whatever happens to it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.base import EngineError, EngineLostError, EngineOpenError
from engines.worker import Worker

HANG = 30  # seconds after which a test counts as hanging


class Doubling:
    """A session that doubles, and can be told to wait or to fail."""

    def __init__(self, opening: Exception | None = None) -> None:
        self.opening = opening
        self.threads: list[int] = []
        self.events: list[str] = []
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def __enter__(self) -> Doubling:
        self.threads.append(threading.get_ident())
        if self.opening:
            raise self.opening
        self.events.append("entered")
        return self

    def __exit__(self, *error: object) -> None:
        self.threads.append(threading.get_ident())
        self.events.append("left")

    def run(self, feeds):
        self.threads.append(threading.get_ident())
        self.started.set()
        assert self.go_on.wait(HANG)
        if isinstance(feeds["x"], BaseException):
            raise feeds["x"]
        return {"y": feeds["x"] * 2}


def test_everything_happens_on_one_thread_that_is_none_of_the_callers():
    session = Doubling()
    worker = Worker("test", lambda: session)
    with ThreadPoolExecutor(16) as callers:
        numbers = list(callers.map(lambda x: worker.run({"x": np.array(x)})["y"], range(800)))
    assert numbers == [2 * x for x in range(800)]
    worker.close()
    (owner,) = set(session.threads)
    assert owner != threading.get_ident()
    assert session.events == ["entered", "left"]


def test_what_cannot_be_entered_raises_where_it_was_asked_for():
    with pytest.raises(EngineOpenError, match="no memory"):
        Worker("test", lambda: Doubling(opening=EngineOpenError("no memory")))


@pytest.mark.parametrize(
    ("error", "seen", "goes_on"),
    [
        pytest.param(EngineError("one run"), EngineError, True, id="one run failed"),
        pytest.param(EngineLostError("gone"), EngineLostError, False, id="the GPU is lost"),
        pytest.param(ZeroDivisionError("a bug"), EngineError, False, id="a bug"),
        pytest.param(SystemExit("out"), EngineError, False, id="somebody exits"),
    ],
)
def test_after_a_failure(error, seen, goes_on, caplog):
    session = Doubling()
    worker = Worker("test", lambda: session)
    with pytest.raises(seen, match=str(error)):
        worker.run({"x": error})
    if goes_on:
        assert worker.run({"x": np.array(3)})["y"] == 6
    else:
        worker.close()
        with pytest.raises(seen, match=str(error)):
            worker.run({"x": np.array(3)})
        assert session.events == ["entered", "left"]
    worker.close()


@pytest.mark.parametrize("lost", [False, True], ids=["closed", "lost"])
def test_everyone_who_waits_is_answered_when_it_ends(lost):
    session = Doubling()
    worker = Worker("test", lambda: session, limit=3)
    session.go_on.clear()
    first = EngineLostError("gone") if lost else np.array(1)
    with ThreadPoolExecutor(9) as callers:
        running = callers.submit(worker.run, {"x": first})
        assert session.started.wait(HANG)
        # Three wait in the queue, the others for a place in it.
        waiting = [callers.submit(worker.run, {"x": np.array(1)}) for _ in range(7)]
        if not lost:
            closing = callers.submit(worker.close)
            for call in waiting:
                with pytest.raises(EngineError, match="closed"):
                    call.result(HANG)
        session.go_on.set()
        if lost:
            for call in (running, *waiting):
                with pytest.raises(EngineLostError, match="gone"):
                    call.result(HANG)
        else:
            assert running.result(HANG)["y"] == 2, "what was running is answered"
            closing.result(HANG)
    worker.close()
    assert session.events == ["entered", "left"]


def test_errors_carry_nothing_of_the_thread_they_come_from():
    session = Doubling()
    worker = Worker("test", lambda: session)
    with pytest.raises(EngineError) as caught:
        worker.run({"x": EngineError("one run")})
    frames = set()
    at = caught.value.__traceback__
    while at:
        frames.add(at.tb_frame.f_code.co_name)
        at = at.tb_next
    assert "_answer" not in frames
    worker.close()

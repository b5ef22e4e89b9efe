"""Progress where there is no terminal: the first word at once, then a line every few seconds."""

import io
import os
import pty
import re
import time

import pytest

from models.progress import ProgressBar


class HandClock:
    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    made = HandClock()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


def test_lines_come_every_few_seconds_with_what_is_left(clock: HandClock) -> None:
    stream = io.StringIO()
    with ProgressBar("base video", "step", stream) as progress:
        assert stream.getvalue() == "base video: loading\n"
        for step in range(1, 21):
            clock.now += 1.0
            progress.report(step, 20)
    lines = stream.getvalue().splitlines()[1:]
    assert lines == [
        "base video: 5 of 20 steps, about 15 s left",
        "base video: 10 of 20 steps, about 10 s left",
        "base video: 15 of 20 steps, about 5 s left",
        "base video: 20 of 20 steps, 20 s",
    ]


def test_a_slow_step_is_a_line_each(clock: HandClock) -> None:
    stream = io.StringIO()
    with ProgressBar("base video", "step", stream) as progress:
        for step in range(1, 4):
            clock.now += 30.0
            progress.report(step, 3)
    assert stream.getvalue().count("\n") == 4


def test_a_terminal_gets_a_bar() -> None:
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as stream:
        with ProgressBar("base video", "step", stream) as progress:
            progress.report(3, 3)
        shown = os.read(reader, 4096).decode()
        while "3/3" not in shown:  # what a terminal hands over comes in pieces
            shown += os.read(reader, 4096).decode()
    os.close(reader)
    assert re.search(r"base video: 100%.*3/3", shown) and "loading" not in shown

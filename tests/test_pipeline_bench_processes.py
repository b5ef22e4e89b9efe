"""Processes in which things are measured: how they end when nobody waits for them any more."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.places import ROOT

# a process that waits for two of its own, as in the part branches
WAITING = """
import sys, time
from pipeline.bench.processes import in_a_process, processes, started

def both():
    with processes(2, print, "begun") as pool:
        for job in [started(pool, time.sleep, 60) for _ in range(2)]:
            job.result()

if __name__ == "__main__":
    try:
        in_a_process(both)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("part", ["waiting", "live"])
def test_a_signal_ends_all_of_them_and_nothing_is_said(
    number: signal.Signals, part: str, tmp_path: Path
) -> None:
    program = tmp_path / "waiting.py"
    program.write_text(WAITING)
    arguments = [str(program)] if part == "waiting" else ["-m", "pipeline", "bench", "live"]
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        while not process.stdout.readline().startswith(("begun", "just in time")):
            pass
        while len(begun := psutil.Process(process.pid).children(recursive=True)) < 2:
            time.sleep(0.01)
        if number == signal.SIGINT:  # as a terminal sends it
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(20) == 128 + number
        assert process.stderr.read() == ""
        _, alive = psutil.wait_procs(begun, 5)
        assert not alive

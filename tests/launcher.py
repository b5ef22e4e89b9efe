"""A real launcher as people start it, and what must hold once it has ended."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil

from tests.places import ROOT

HANGS = 400.0  # seconds; everything here takes a few on an idle machine
GONE_SECONDS = 10.0
SPEED = r"[\d.]+ latents/s, step p50 [\d.]+ ms"


def with_our_python():
    """The variable by which the shell scripts find the Python that runs the tests."""
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


class Launcher:
    """A launcher whose lines on stderr are read as they come."""

    def __init__(self, *arguments, **environment) -> None:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.process = subprocess.Popen(
            ["bash", ROOT / "run_interactive.sh", *map(str, arguments)],
            env={**plain, **with_our_python(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def wait_for(self, pattern):
        """Read until a line matches; returns the match."""
        for line in self.process.stderr or ():
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"{pattern!r} never came:\n{''.join(self.lines)}")

    def family(self):
        """The launcher and everything below it."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def end(self, number):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=HANGS)
        self.lines += err.splitlines(keepends=True)
        return self.process.returncode, out


def measure_dit(*arguments, **environment):
    """``start_dit.sh`` to its end, which must be a good one that says its speed."""
    done = subprocess.run(
        ["bash", ROOT / "start_dit.sh", *map(str, arguments)],
        env={**os.environ, **with_our_python(), **environment},
        timeout=HANGS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and re.search(SPEED, done.stderr), done.stderr


def assert_gone(family):
    """No process of these, within ten seconds."""
    _, alive = psutil.wait_procs(family, timeout=GONE_SECONDS)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def assert_nothing_left(family, temporary):
    """No process, no folder, and so no port."""
    assert_gone(family)
    assert not list(temporary.glob("matrix-*"))

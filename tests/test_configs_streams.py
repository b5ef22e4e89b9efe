"""Commands that are started without standard input, output or error."""

import subprocess
import sys

import pytest

from tests.places import ROOT

CHILD = "import os; [os.fstat(number) for number in range(3)]; print('there', flush=True)"
PARENT = f"""
import subprocess, sys
from configs.streams import open_streams
open_streams()
sys.stdout.flush(), sys.stderr.flush(), sys.stdin.read()
sys.exit(subprocess.call([sys.executable, "-c", {CHILD!r}], stdin=sys.stdin))
"""


def python(arguments: list[str], streams: str) -> "subprocess.CompletedProcess[str]":
    """``streams``: what a shell is told of them."""
    return subprocess.run(
        ["bash", "-c", f'exec "$0" "$@" {streams}', sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&- <&-", ">&- 2>&- <&-"])
def test_a_command_ends_as_usual(closed: str) -> None:
    for arguments, code in ((["--help"], 0), (["run", "--no-such-thing"], 2)):
        done = python(["-m", "pipeline", *arguments], closed)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr


def test_children_have_all_three() -> None:
    assert python(["-c", PARENT], ">&- 2>&- <&-").returncode == 0
    done = python(["-c", PARENT], "</dev/null")
    assert done.returncode == 0 and done.stdout == "there\n", "what is open stays as it is"

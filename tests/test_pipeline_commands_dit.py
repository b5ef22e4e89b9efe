"""The transformer group alone: its speed, its end, and what ``start_dit.sh`` understands."""

import os
import re
import signal
import subprocess

import psutil
import pytest

from tests.launcher import HANGS, ROOT, SPEED, assert_gone, with_our_python


def test_the_dit_group_alone_prints_its_speed(model):
    launch = subprocess.Popen(
        ["bash", ROOT / "start_dit.sh", "2", model],
        env={**os.environ, **with_our_python()},
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    for line in launch.stderr or ():
        said.append(line)
        if re.search(SPEED, line):
            break
    else:
        raise AssertionError("".join(said))
    family = psutil.Process(launch.pid).children(recursive=True)
    assert sum("DitWorker" in " ".join(process.cmdline()) for process in family) == 2
    launch.send_signal(signal.SIGINT)
    assert launch.wait(HANGS) == 130
    assert_gone(family)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "error: expected NUM_GPUS_DIT, as in: bash start_dit.sh 2 models/stage4; usage: bash"),
        (["--duration", "5"], "got --duration; usage: bash start_dit.sh NUM_GPUS_DIT [MODEL_PATH]"),
        (["1", "--ranks=2"], "error: --ranks is said twice: expected it first, as in"),
        (["1", ".", "--model-path", "x"], "error: --model-path is said twice: expected it first"),
        (["2", "/nonexistent"], "/nonexistent"),
        (["2", "--model-path", "/nonexistent"], "/nonexistent"),  # the folder may be left out
        (["2", "--duration", "x"], "--duration"),
        (["2", ""], "--model-path"),
    ],
)
def test_start_dit_takes_a_number_perhaps_a_folder_and_flags(arguments, said):
    done = subprocess.run(
        ["bash", ROOT / "start_dit.sh", *arguments],
        env={**os.environ, **with_our_python()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and said in done.stderr


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_start_dit_says_how_it_is_called(flag):
    done = subprocess.run(
        ["bash", ROOT / "start_dit.sh", flag],
        env={**os.environ, **with_our_python()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith("bash start_dit.sh NUM_GPUS_DIT [MODEL_PATH] [flags]")
    assert "--duration SECONDS" in done.stdout


@pytest.mark.parametrize("number", ["abc", "0", "-2", "1.5", "08", "", "a[$(touch PWNED)]"])
def test_the_launchers_never_compute_with_what_is_no_number(number, tmp_path):
    # a variable that is empty counts as not set
    interactive = [["run_interactive.sh"]] if number else []
    for command in (*interactive, ["start_dit.sh", number, "."]):
        done = subprocess.run(
            ["bash", ROOT / command[0], *command[1:]],
            env={"PATH": "/usr/bin:/bin", "NUM_GPUS_DIT": number},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (
            done.returncode == 2 and done.stderr.count("\n") == 1 and "NUM_GPUS_DIT" in done.stderr
        )
    assert not list(tmp_path.iterdir())

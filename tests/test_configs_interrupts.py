"""Ctrl-C while a command imports what it needs: exit code 130, and nothing is said."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from configs.interrupts import importing
from tests.places import ROOT

# a package that stands for the slow ones: it says that it is being imported, and takes long
SLOW = "import sys, time; print('importing', flush=True); time.sleep(60)"
COMMANDS = {
    "dataclasses": ["-m", "pipeline", "plan"],  # the first of our own imports
    "torch": ["-m", "pipeline", "doctor", "--no-drive"],
    "numpy": ["generation_example.py"],
    "PIL": ["-m", "training", "configs/train_tiny.yaml"],
}


@pytest.mark.parametrize("package", COMMANDS)
def test_ctrl_c_while_it_imports_says_nothing(package: str, tmp_path: Path) -> None:
    (tmp_path / f"{package}.py").write_text(SLOW)
    command = [sys.executable, *COMMANDS[package]]
    path = f"{tmp_path}:{ROOT}"
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "" and process.wait() == 130


def test_afterwards_it_is_an_exception_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with importing():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with importing():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "nobody wants to hear of it"
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_changes() -> None:
    failed: list[Exception] = []

    def work() -> None:
        try:
            with importing():
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed

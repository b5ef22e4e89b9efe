"""The guardian: a small process that keeps one Ray head and, when the launcher is gone, leaves
nothing behind.

    python -m actors.guardian TEMP_DIR KEEP_LOGS COMMAND...

Its standard input is a pipe whose other end only the launcher holds: end of file means that the
launcher is gone, however it died. It adopts every orphan below it, so ending the tree needs no list
of names and touches nobody else's Ray. It writes one line, "ready", once the head runs (else the
last words of the head), and ends when the head or one of its daemons ends, or a daemon stays stopped.
Where KEEP_LOGS is not empty, the logs of Ray and its workers are copied to this folder at the end, even
if the launcher was killed."""

import contextlib
import ctypes
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import psutil

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
LOGS: Final = "ray/session_latest/logs"  # below the folder of a run
STARTED: Final = b"Ray runtime started"
DAEMONS: Final = ("gcs_server", "raylet")
LOOK_SECONDS: Final = 2.0
FROZEN_LOOKS: Final = 5  # looks in a row that find a daemon stopped: the head is as good as dead
PATIENCE: Final = 8.0  # seconds until processes that survive a kill (in a driver call) are given up


def main(folder: Path, keep_logs: str, command: list[str]) -> int:
    """Keep ``command`` until standard input ends, SIGTERM comes or it ends; then remove all below,
    and folder."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wakened, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    head = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
    )
    try:
        return keep(head, wakened, folder)
    finally:
        end_tree()
        if keep_logs:
            copy_logs(folder, Path(keep_logs))
        shutil.rmtree(folder, ignore_errors=True)


def keep(head: "subprocess.Popen[bytes]", wakened: int, folder: Path) -> int:
    """Wait for the first of: launcher gone, SIGTERM, head gone. Copies the head's output to
    ``head.log``."""
    assert head.stdout is not None
    output, ready = head.stdout.fileno(), False
    with (
        selectors.DefaultSelector() as selector,
        (folder / "head.log").open("wb", buffering=0) as log,
    ):
        for source in (sys.stdin.fileno(), wakened, output, os.pidfd_open(head.pid)):
            selector.register(source, selectors.EVENT_READ)
        said, frozen = b"", 0
        while True:
            ready_files = selector.select(LOOK_SECONDS)
            frozen = frozen + 1 if not ready_files and daemon_stopped() else 0
            if frozen >= FROZEN_LOOKS:
                return 0
            for key, _ in ready_files:
                if key.fd == output and (text := os.read(output, 65536)):
                    log.write(text)
                    said = (said + text)[-4096:]
                    if STARTED in said and not ready:
                        ready = True
                        tell("ready")
                        if not watch_daemons(head.pid, selector):
                            return 0
                elif key.fd == output:
                    selector.unregister(output)
                else:
                    if not ready:
                        tell(" ".join(said.decode(errors="replace").split())[-300:])
                    return 0


def watch_daemons(head: int, selector: selectors.BaseSelector) -> bool:
    """From now on an end of Ray's own processes wakes the selector: a head whose raylet was asked to
    end (SIGTERM) stays as if nothing were. False when there is no raylet any more.

    Only children of the head itself: what a raylet starts has its name for a moment."""
    names = set()
    for child in psutil.Process(head).children():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if child.name() in DAEMONS:
                selector.register(os.pidfd_open(child.pid), selectors.EVENT_READ)
                names.add(child.name())
    return "raylet" in names


def daemon_stopped() -> bool:
    """Whether one of Ray's own processes was stopped (SIGSTOP): its cluster answers nobody."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.name() in DAEMONS and child.status() == psutil.STATUS_STOPPED:
                return True
    return False


def copy_logs(folder: Path, target: Path) -> None:
    """The head's words and the log files of Ray and its workers; what cannot be copied (a full disk)
    is left out."""
    with contextlib.suppress(OSError, shutil.Error):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "head.log", target)
        shutil.copytree(folder / LOGS, target / "ray")


def tell(line: str) -> None:
    """Say one line to the launcher, if it is still there."""
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), f"{line}\n".encode())


def end_tree() -> None:
    """Kill every process below this one, again and again until none is left: Ray holds nothing that
    needs a goodbye."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        reap()
        living = [child for child in psutil.Process().children(recursive=True) if alive(child)]
        if not living:
            return
        for child in living:
            with contextlib.suppress(psutil.Error):  # it ended by itself
                child.kill()
        psutil.wait_procs(living, timeout=0.2)


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def reap() -> None:
    """Collect children that ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))

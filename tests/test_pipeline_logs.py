"""What a run writes about itself: in the terminal from a level on, in the kept folder with the
traceback of what ended it."""

import logging
import signal
from pathlib import Path

import pytest

from pipeline.console import Console
from pipeline.logs import LAUNCHER, logged
from tests.launcher import HANGS, Launcher, assert_nothing_left

pytestmark = pytest.mark.usefixtures("levels")


def speak() -> None:
    try:
        raise ZeroDivisionError("no frames a second")
    except ZeroDivisionError:
        logging.getLogger("actors.repair").info("what broke, in full", exc_info=True)
    logging.getLogger("models.text").warning("the prompt was cut")


def test_the_terminal_hears_what_it_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    with logged("warning", None, console):
        speak()
    quiet = capsys.readouterr().err
    assert quiet.count("\n") == 1 and "warning models.text: the prompt was cut" in quiet
    with logged("info", None, console):
        speak()
        console.say("stage", "said once")
    loud = capsys.readouterr().err
    assert "ZeroDivisionError: no frames a second" in loud and "in speak" in loud
    assert loud.count("said once") == 1


def test_the_kept_log_has_all_of_it_whatever_the_terminal_hears(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console()
    with pytest.raises(RuntimeError), logged("error", tmp_path / "logs", console):
        speak()
        console.say("notice", "a notice\nforged?")
        raise RuntimeError("the end")
    told, kept = capsys.readouterr().err, (tmp_path / "logs" / LAUNCHER).read_text()
    assert "cut" not in told and "the prompt was cut" in kept
    assert "ZeroDivisionError: no frames a second" in kept and "RuntimeError: the end" in kept
    assert "pipeline.console: notice: a notice forged?\n" in kept


@pytest.fixture
def crowded(tmp_path, monkeypatch):
    """A current folder that has packages of our packages' names, and is on the path too."""
    folder = tmp_path / "crowded"
    for name in ("configs", "models", "actors", "pipeline", "training"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_a_death_is_told_with_its_cause_and_the_logs_are_kept(model, temporary, tmp_path, crowded):
    """A worker that crashes: the first line of why in the terminal. A killed launcher: the logs of
    everybody are there all the same. All this among packages of somebody else's."""
    kept = tmp_path / "logs"
    launch = Launcher(
        *("--headless", "--duration", "600", "--keep-logs", kept, "--log-level", "info"),
        MODEL_PATH=str(model),
        CUDA_VISIBLE_DEVICES="",
    )
    launch.wait_for("first frame shown")
    family = launch.family()
    worker = next(process for process in family if "DitWorker" in process.cmdline()[0])
    worker.send_signal(signal.SIGSEGV)
    told = launch.wait_for("a worker process died")
    assert "(Fatal Python error: Segmentation fault" in told.string
    launch.wait_for("the world goes on after")
    family = launch.family()
    launch.end(signal.SIGKILL)
    assert_nothing_left(family, temporary)
    log = (kept / "launcher.log").read_text()
    assert "actors.repair: what broke, in full\nTraceback" in log and "settings: RunConfig(" in log
    (head,) = kept.glob("matrix-*")
    assert "Ray runtime started" in (head / "head.log").read_text()
    said = [path.read_text() for path in head.glob(f"ray/worker-*-{worker.pid}.err")]
    assert len(said) == 1 and "Fatal Python error: Segmentation fault" in said[0]
    secrets = [path for path in kept.rglob("*") if path.is_file() and path.name == "token"]
    assert not secrets


def test_logs_are_kept_in_a_folder_of_their_own(model, tmp_path):
    (tmp_path / "mine.txt").touch()
    launch = Launcher("--headless", "--keep-logs", tmp_path, MODEL_PATH=str(model))
    _, err = launch.process.communicate(timeout=HANGS)
    assert launch.process.returncode == 2
    first, refusal = err.splitlines()  # something is said before anything is looked at
    assert first.endswith("starting: looking at weights and machine")
    assert f"--keep-logs {tmp_path}: expected a new or an empty folder" in refusal

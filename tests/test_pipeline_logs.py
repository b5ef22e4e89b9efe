"""What a run writes about itself: in the terminal from a level on, in the kept folder with the
traceback of what ended it."""

import logging
from pathlib import Path

import pytest

from configs.logs import PACKAGES
from pipeline.console import Console
from pipeline.logs import LAUNCHER, logged


@pytest.fixture(autouse=True)
def as_it_was():
    before = {name: logging.getLogger(name).level for name in PACKAGES}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


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

"""The log of a run: what the loggers of all packages say, in the terminal and, with --keep-logs, in
a folder beside the logs of Ray and the workers (which actors/guardian.py puts there at the end)."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from configs.logs import SHAPE, listening, set_level
from pipeline.console import Console

LAUNCHER: Final = "launcher.log"
logger = logging.getLogger(__name__)


class Terminal(logging.Handler):
    """Log records as lines of the console, with their traceback behind them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "pipeline.console":  # it has said so itself
            return
        text = f"{record.levelname.lower()} {record.name}: {record.getMessage()}"
        self._console.say("log", text, logger=record.name, level=record.levelname.lower())
        if record.exc_info:
            for line in logging.Formatter().formatException(record.exc_info).splitlines():
                self._console.say("log", f"  {line}")


@contextmanager
def logged(level: str, folder: Path | None, console: Console) -> Iterator[None]:
    """Log what happens inside: to the console from ``level`` on, to LAUNCHER in ``folder`` from
    "info" on at least. An exception that passes is logged with its traceback."""
    terminal = Terminal(console)
    terminal.setLevel(level.upper())
    handlers: list[logging.Handler] = [terminal]
    set_level(level)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(folder / LAUNCHER, mode="w", encoding="utf-8")
        file.setFormatter(SHAPE)
        handlers.append(file)
        set_level("debug" if level == "debug" else "info")
    with ExitStack() as stack:
        stack.enter_context(listening(*handlers))
        try:
            yield
        except BaseException:
            logger.info("the run was ended by an exception", exc_info=True)
            raise

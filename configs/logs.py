"""Logging: a logger for each package, all at one level, in lines of one shape wherever they go.

Modules write to ``logging.getLogger(__name__)``; nothing is printed until a handler listens.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PACKAGES: Final = ("configs", "models", "actors", "pipeline", "training")
LEVELS: Final = ("debug", "info", "warning", "error")
SHAPE: Final = logging.Formatter("%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s")


def set_level(level: str) -> None:
    """From this level on (one of LEVELS) the packages' loggers pass records to their handlers."""
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level.upper())


@contextmanager
def listening(*handlers: logging.Handler) -> Iterator[None]:
    """Hand the records of all packages to ``handlers``, which are closed at the end."""
    loggers = [logging.getLogger(package) for package in PACKAGES]
    for handler in handlers:
        for logger in loggers:
            logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            for logger in loggers:
                logger.removeHandler(handler)
            handler.close()


def listen_for_ever(handler: logging.Handler) -> None:
    """The same in a process whose only handler this is: a worker, whose standard error is a file."""
    handler.setFormatter(SHAPE)
    for package in PACKAGES:
        logging.getLogger(package).addHandler(handler)

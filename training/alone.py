"""One training at a time at a stage of a work folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from configs.errors import UserError


@contextlib.contextmanager
def alone(work: Path, stage: str) -> Iterator[None]:
    """While nobody else is at this stage in this folder, which is made: two would write the same
    checkpoints, and delete each other's. A killed training holds nothing. Raises UserError, and
    OSError where nothing can be written."""
    work.mkdir(parents=True, exist_ok=True)
    handle = os.open(work / f".{stage}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"work folder {work}: another training is at its stage {stage!r} there; wait for "
                "its end, or choose another folder with --work"
            ) from None
        yield
    finally:
        os.close(handle)

"""How far a long piece of work is: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from typing import Final, TextIO

from tqdm import tqdm

LINE_SECONDS: Final = 5.0  # between two lines where there is no terminal


class ProgressBar:
    """Shows ``title`` and how much of it is done. Used as a context; says the first word at once."""

    def __init__(self, title: str, unit: str, stream: TextIO | None = None) -> None:
        """unit: what is counted, in the singular. stream: by default stderr."""
        self._title, self._unit = title, unit
        self._stream = sys.stderr if stream is None else stream
        self._bar = tqdm(desc=title, unit=unit, file=self._stream, disable=None)
        self._begun = self._told = time.monotonic()

    def __enter__(self) -> "ProgressBar":
        if self._bar.disable:
            self._say("loading")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def report(self, done: int, total: int) -> None:
        """``done`` of ``total`` are done."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        now = time.monotonic()
        over = done >= total
        if self._bar.disable and (over or now - self._told >= LINE_SECONDS):
            self._told = now
            passed = now - self._begun
            left = (
                f"{passed:.0f} s" if over else f"about {passed * (total - done) / done:.0f} s left"
            )
            self._say(f"{done} of {total} {self._unit}s, {left}")

    def _say(self, text: str) -> None:
        print(f"{self._title}: {text}", file=self._stream, flush=True)

"""An address as a code for a phone's camera, in a terminal."""

from itertools import zip_longest
from typing import Final

import segno

BORDER: Final = 2  # light modules around it: the least that cameras want
# A module is half a letter: (upper, lower) dark or not. Light ones are drawn, on a dark terminal.
_LETTERS: Final = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}


def qr_lines(address: str) -> list[str]:
    """The QR code of an address, a line of text for two rows of modules."""
    rows = [
        list(row) for row in segno.make(address, error="l", micro=False).matrix_iter(border=BORDER)
    ]
    pairs = zip_longest(rows[::2], rows[1::2], fillvalue=[1] * len(rows[0]))
    return [
        "".join(_LETTERS[bool(a), bool(b)] for a, b in zip(*pair, strict=True)) for pair in pairs
    ]

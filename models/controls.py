"""The control vocabulary: nine labels, their sentences, parsing and the random rule
(docs/reference.md sections 4 and 9).

One label steers one latent (4 frames, 250 ms at 16 FPS).
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np

from configs.errors import UserError

STRAIGHT_ON = "D"  # what no key at all means
LABELS = ("D", "DL", "DR", "B", "BL", "BR", "N", "NL", "NR")
# The control embedding is CLIP's feature of these sentences, so they are model inputs: never edit
# them.
SENTENCES = (
    "The car is moving straight ahead.",
    "The car is turning left ahead.",
    "The car is turning right ahead.",
    "The car is reversing backward.",
    "The car is turning left while reversing.",
    "The car is turning right while reversing.",
    "The car is in neutral gear.",
    "The car is coasting in neutral and turning left.",
    "The car is coasting in neutral and turning right.",
)
NULL_ID = len(LABELS)  # the row of the null control, used by training only
MAX_SIGNAL = 1_000_000  # latents: close to three days of stream

# what people type for a label: the keys of the page, and where the arrows point
TYPED = {"W": "D", "A": "DL", "S": "B", "UP": "D", "LEFT": "DL", "RIGHT": "DR", "DOWN": "B"}

_ITEM = re.compile(r"([A-Z]+)(?:\*([0-9]{1,7}))?", re.ASCII)


def label_id(label: str) -> int:
    """Return the embedding row of `label`. Raises UserError for anything that is not one of the
    nine labels."""
    if label not in LABELS:
        raise UserError(
            f"unknown control label {str(label)[:40]!a}: expected one of {', '.join(LABELS)}"
        )
    return LABELS.index(label)


def parse_signal(text: str) -> list[str]:
    """Parse ``"D,DL"`` or the run-length form ``"D*16,DL*8"`` into one label per latent.

    Raises UserError on an unknown label, an empty item, a zero count or more than MAX_SIGNAL
    labels."""
    if not isinstance(text, str):
        join = '; ",".join(labels) makes it of a list' if isinstance(text, list | tuple) else ""
        got = type(text).__name__
        raise UserError(f'control signal: expected text like "D,DL*4", got {got}{join}')
    if text.count(",") >= MAX_SIGNAL:
        raise UserError(
            f"control signal: expected at most {MAX_SIGNAL} labels, got {text.count(',') + 1} items"
        )
    labels: list[str] = []
    for position, raw in enumerate(text.split(","), start=1):
        item = raw.strip(" ")
        if not item:
            raise UserError(
                f'control signal: item {position} is empty; write labels as "D,DL*4,DR" without a last comma'
            )
        match = _ITEM.fullmatch(item)
        if match is None or match[1] not in LABELS:
            raise UserError(
                f"control signal: item {position} is {item[:40]!a}; expected one of {', '.join(LABELS)}, "
                f"optionally with a count as in DL*8{_meant(item)}"
            )
        count = int(match[2] or 1)
        if not 1 <= count <= MAX_SIGNAL - len(labels):
            raise UserError(
                f"control signal: item {position} is {item!a}; a count from 1 to {MAX_SIGNAL} in all"
            )
        labels += [match[1]] * count
    return labels


def _meant(item: str) -> str:
    """What to write in place of an item that is no label, where that can be guessed."""
    match = _ITEM.fullmatch(item.upper()) if item.isascii() else None
    if match is None:
        return ""
    if match[1] in LABELS:
        return f"; did you mean {item.upper()[:40]!r}?"
    label = TYPED.get(match[1])
    return f"; the key {match[1]} is the label {label}" if label else ""


def write_signal(labels: Iterable[str]) -> str:
    """Labels as ``parse_signal`` reads them: "D*16,DL*8,D"; "" for none."""
    runs = ((label, sum(1 for _ in run)) for label, run in groupby(labels))
    return ",".join(f"{label}*{count}" if count > 1 else label for label, count in runs)


def random_signal(length: int, seed: int) -> list[str]:
    """Return `length` random labels, the same for the same seed (docs/reference.md section 4,
    "Random labels").

    Runs of D alternate with turns; every run lasts at least two latents, then ends with a rising
    probability."""
    generator = np.random.default_rng(seed)
    minimum_run, increment = 2, 0.2
    turns = ("DR", "DL")
    current, run, chance = STRAIGHT_ON, 0, increment
    signal: list[str] = []
    for _ in range(length):
        if run >= minimum_run and (chance >= 1 or generator.random() < chance):
            current = turns[generator.choice([1, 2]) - 1] if current == STRAIGHT_ON else STRAIGHT_ON
            run, chance = 1, increment
        else:
            if run >= minimum_run:
                chance = min(1.0, chance + increment)
            run += 1
        signal.append(current)
    return signal


def reduce_raw(labels: Sequence[str], every: int = 4) -> list[str]:
    """Reduce one label per video frame to one per latent: every 4th, starting with the first."""
    return list(labels[::every])

"""What the next step is told: the key that is held, the drive that is followed, the prompt in
force, and when it may start."""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from actors.records import StepOrder
from actors.source import Pace, Take
from actors.timeline import Prompt


@dataclass
class Reset:
    """A stream that was asked for and has not begun. ``embeddings`` of its take's prompts by text;
    None: they are still being read."""

    seed: int
    take: Take | None
    embeddings: dict[str, np.ndarray] | None


@dataclass
class Steering:
    """The newest of everything that steers."""

    prompt: Prompt
    held: str = "D"
    cursor: int = 0
    pace: Pace = Pace(0, math.inf, -1)
    wanted: Reset | None = None
    _take: Take | None = None
    _embeddings: dict[str, np.ndarray] = field(default_factory=dict)

    def follow(self, reset: Reset) -> None:
        """The stream of ``reset`` begins: its take is in charge for as long as it lasts."""
        self._take, self._embeddings = reset.take, reset.embeddings or {}
        if reset.take is not None and reset.embeddings:
            self._scripted(reset.take.prompts[0])

    def next_step(self, index: int, window: int) -> tuple[StepOrder, Prompt]:
        """What latents ``index`` .. ``index + window - 1`` are conditioned on, sampled now."""
        labels = (self.held,) * window
        if self._take is not None and index < len(self._take.labels):
            scripted = self._take.labels[index : index + window]
            labels = scripted + labels[len(scripted) :]
            self._scripted(self._take.prompts[index])
        return StepOrder(index, labels, self.cursor), self.prompt

    def _scripted(self, text: str) -> None:
        if text != self.prompt.text and text in self._embeddings:
            self.prompt = replace(self.prompt, text=text, embedding=self._embeddings[text])

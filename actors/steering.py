"""What the next step is told: the key that is held, the drive that is followed, the prompt in
force, and when it may start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from actors.records import StepOrder
from actors.source import Pace, Take
from actors.timeline import Commit, Prompt, Route, Steered
from models.controls import STRAIGHT_ON


@dataclass(frozen=True)
class Reset:
    """A stream that was asked for and has not begun. ``route`` None: from latent 0 on, under the
    prompt in force when it begins. Latents before ``first`` are nobody's to see. ``ready``: it may
    begin; the prompts of its drive have been read."""

    seed: int
    route: Route | None = None
    first: int = 0
    ready: bool = True

    def route_under(self, prompt: Prompt) -> Route:
        """The route that it begins with, if ``prompt`` is in force then."""
        return self.route or Route(Commit(0, self.seed, prompt))


def route_of(
    take: Take,
    embeddings: Mapping[str, np.ndarray],
    prompt: Prompt,
    commits: Sequence[Commit] = (),
) -> Route:
    """From latent 0, or from the last of ``commits`` on, by a drive's labels and prompts;
    ``prompt`` in place of those that could not be read. To the earlier commits one can go back."""
    prompts = {
        text: replace(prompt, text=text, embedding=embedding)
        for text, embedding in embeddings.items()
    }
    begin = commits[-1].index if commits else 0
    first = commits[0].index if commits else 0
    steered = tuple(
        (label, prompts.get(text, prompt))
        for label, text in zip(take.labels[first:], take.prompts[first:], strict=True)
    )
    led, way = steered[: begin - first], steered[begin - first :]
    if not commits:
        return Route(Commit(0, take.seed, way[0][1] if way else prompt), way)
    return Route(commits[-1], way, tuple(commits[:-1]), led)


@dataclass
class Steering:
    """The newest of everything that steers."""

    prompt: Prompt
    held: str = STRAIGHT_ON
    cursor: int = 0
    pace: Pace = Pace.standing()
    wanted: Reset | None = None
    _way: tuple[Steered, ...] = ()  # in charge of the latents from _since on, for as many as it has
    _since: int = 0

    def follow(self, route: Route) -> None:
        """A stream begins by this way."""
        self._way, self._since = route.way, route.commit.index
        self._scripted(route.commit.prompt)

    def next_step(self, index: int, window: int) -> tuple[StepOrder, Prompt]:
        """What latents ``index`` .. ``index + window - 1`` are conditioned on, sampled now."""
        labels = (self.held,) * window
        scripted = self._way[index - self._since : index - self._since + window]
        if scripted:
            labels = tuple(label for label, _ in scripted) + labels[len(scripted) :]
            self._scripted(scripted[0][1])
        return StepOrder(index, labels, self.cursor), self.prompt

    def _scripted(self, prompt: Prompt) -> None:
        if prompt.text != self.prompt.text:
            self.prompt = replace(self.prompt, text=prompt.text, embedding=prompt.embedding)

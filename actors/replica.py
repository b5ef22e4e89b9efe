"""A replica: one DiT group and one VAE group, which step and decode the worlds of several sessions."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from actors.costs import Costs
from actors.gang import Gang, Reference, gathered, quietly
from actors.records import LatentChunk, Slice, StepOrder, StepReply
from actors.repair import watched
from actors.timeline import Commit, Offsets, Prompt, Step
from actors.turns import Turns


@dataclass(frozen=True)
class Rewound:
    """Both groups, on their way to a commit."""

    groups: tuple[tuple[Gang, "asyncio.Future[list[None]]"], ...]

    @property
    def done(self) -> bool:
        return all(outcome.done() for _, outcome in self.groups)

    async def hold(self, limit: float) -> None:
        """Wait until both stand there. Raises Fault for the group that broke."""
        for gang, outcome in self.groups:
            await watched(gang, outcome, limit)


class Replica:
    """Typed calls to two gangs. Worlds go by the number of their session."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.costs = Costs()
        self._told: dict[int, Prompt] = {}  # what the DiT group was told last, by world

    def man(self, dit: Gang, vae: Gang) -> None:
        """These are its gangs from now on."""
        self.dit, self.vae = dit, vae

    @property
    def local(self) -> bool:
        """All its workers are on this host."""
        return all(len(gang.pids) == gang.size for gang in (self.dit, self.vae))

    def step(self, world: int, order: StepOrder, prompt: Prompt, asked: float) -> Step:
        """Send a world's step on its way through both groups: every DiT rank gets the order, rank
        0's latents go straight to every VAE worker. ``asked`` is when it could have started."""
        first: Sequence[Reference[Any]] = ()
        if prompt is not self._told.get(world):
            first = self.dit.ask("set_prompt", world, prompt.embedding)
            self._told[world] = prompt
        pairs = self.dit.ask("step", world, order, returns=2)
        chunk = cast(Reference[LatentChunk], pairs[0][0])
        replies = gathered([cast(Reference[StepReply], reply) for _, reply in pairs])
        return Step(
            order=order,
            prompt=prompt,
            asked=asked,
            sampled=time.monotonic(),
            chunk=chunk,
            replies=_after(gathered(first), replies) if first else replies,
            slices=gathered(cast(list[Reference[Slice]], self.vae.ask("decode", world, chunk))),
        )

    def step_in_turn(self, world: int, order: StepOrder, prompt: Prompt, asked: float) -> Step:
        """As `step`, by who took a turn, which ends with it."""
        step = self.step(world, order, prompt, asked)
        turns = self.turns  # a step may outlive the turns that are dealt out now
        step.replies.add_done_callback(lambda _: turns.stepped())
        step.slices.add_done_callback(lambda _: turns.decoded())
        return step

    def rewind(self, world: int, commit: Commit) -> Rewound:
        """Set a world to a commit, on both groups."""
        prompt = self._told[world] = commit.prompt
        if commit.state is None:
            dit = self.dit.ask("reset", world, commit.seed, prompt.text, prompt.embedding)
            vae = self.vae.ask("reset", world)
        else:
            dit = self.dit.ask("restore", world, commit.state)
            vae = self.vae.ask("restore", world, commit.index, *commit.history)
        return Rewound(((self.dit, gathered(dit)), (self.vae, gathered(vae))))

    def forget(self, world: int) -> None:
        """A world has ended, or rests: give its memory back."""
        self._told.pop(world, None)
        for gang in (self.dit, self.vae):
            if gang.alive:
                gathered(gang.ask("forget", world))

    @property
    def offsets(self) -> Offsets:
        """From the clocks of the two groups to ours."""
        return Offsets(self.dit.clock_offset, self.vae.clock_offset)


def _after(
    first: "asyncio.Future[list[Any]]", then: "asyncio.Future[list[StepReply]]"
) -> "asyncio.Future[list[StepReply]]":
    """``then``, which fails too if ``first`` does."""

    async def both() -> list[StepReply]:
        await first
        return await then

    return quietly(both())

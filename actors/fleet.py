"""The fleet: the replicas of one launcher, which session is on which, and their repair.

What makes a fault harmless: noise is a function of (seed, latent index), every step names the
latent that it makes, and a world's state comes back with every step. What broke is replaced, every
world is set back to its newest state, and the steps that were under way are asked for again with
the labels they had.
"""

import asyncio
import collections
import functools
import itertools
import math
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from actors.costs import Load, Overhead, capacity
from actors.groups import Groups
from actors.layout import Layout
from actors.prompts import PromptReader
from actors.records import Slice, StepReply
from actors.repair import FAULT_SECONDS, FIRST_STEP_SECONDS, Fault, Faults
from actors.replica import Replica, Rewound
from actors.source import Reporter, WorldInfo
from actors.tasks import cancel
from actors.timeline import Commit, Route
from actors.turns import Turns
from actors.walk import walk
from configs.choice import WeightChoice
from models.checkpoint import Checkpoint


class Served(Protocol):
    """What a fleet asks of a session."""

    say: Reporter

    @property
    def resting(self) -> bool:
        """It takes no steps for now."""
        ...

    def loops(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What serves it, for as long as nothing breaks."""
        ...

    def broke(self, fault: Fault) -> None:
        """Something broke, and is being mended."""
        ...

    def rewind(self) -> Rewound:
        """Set its world back to where it stood last."""
        ...

    def go_on(self, seconds: float) -> None:
        """The repair took so long; ask again for what was under way."""
        ...

    def fail(self, error: BaseException) -> None:
        """The fleet is beyond repair."""
        ...


@dataclass(eq=False)
class _Member:
    """A session, and what the fleet knows of it. ``replica`` None: the workers load."""

    number: int
    session: Served
    replica: Replica | None = None
    served: bool = False
    loops: list[asyncio.Task[None]] = field(default_factory=list)
    refused: float = -math.inf  # when a worker refused something of its world last


class Fleet:
    """Starts with the first session, on a cluster of its own or the one at ``address``; the logs of
    its own go to ``keep_logs`` when it ends."""

    def __init__(
        self,
        info: WorldInfo,
        weights: WeightChoice,
        layout: Layout,
        address: str | None = None,
        keep_logs: Path | None = None,
    ) -> None:
        self.info, self._weights = info, weights
        self._checkpoint: Checkpoint | None = None
        self.groups = Groups(weights, layout, address, self._say, keep_logs)
        self.prompts = PromptReader(self.groups, self._tell)
        self._numbers = itertools.count()
        self._members: dict[int, _Member] = {}
        self._faults = Faults()
        self._overhead = Overhead()
        self._struck: _Member | None = None  # whose loop met the fault
        self._opening = asyncio.Lock()
        # while nothing is broken: what waits for it
        self._broken: asyncio.Future[None] | None = None
        self._work: asyncio.Task[None] | None = None

    async def enter(self, session: Served) -> tuple[int, Replica]:
        """A session comes; returns its world's number, and the replica that has the fewest worlds.
        The first one waits for the workers to load. Raises UserError: the cluster cannot be joined
        or has no room; weights that do not load."""
        number = next(self._numbers)
        member = self._members[number] = _Member(number, session)
        try:
            async with self._opening:
                if self._work is None:
                    await self.groups.open()
                    self._work = asyncio.create_task(self._run())
        except BaseException:
            del self._members[number]
            raise
        if self._work.done():
            raise RuntimeError("the workers are beyond repair")
        taken = collections.Counter(id(other.replica) for other in self._members.values())
        member.replica = min(self.groups.replicas, key=lambda each: taken[id(each)])
        return number, member.replica

    @property
    def capacity(self) -> int:
        """How many worlds keep their frame rate at once, by what those here cost; one a replica
        while that is not known yet."""
        costs = [replica.costs for replica in self.groups.replicas]
        return capacity(costs, self._overhead.seconds, self.info)

    @property
    def loads(self) -> list[Load]:
        """What each replica carries."""
        found = []
        for replica in self.groups.replicas:
            members = [each for each in self._members.values() if each.replica is replica]
            resting = sum(each.session.resting for each in members)
            found.append(replica.costs.load(len(members) - resting, resting))
        return found

    def took(self, replica: Replica, replies: Sequence[StepReply], slices: Sequence[Slice]) -> None:
        """A step of one of the worlds came back."""
        busy = sum(each.processors for each in replies) + sum(each.processors for each in slices)
        processors = busy if replica.local else 0.0
        decode = max(part.seconds for part in slices)
        replica.costs.took(replies[0].seconds, decode, processors)
        self._overhead.took()

    async def checkpoint(self) -> Checkpoint:
        """What is served, as files of worlds name it: opened once, while the frames go on."""
        if self._checkpoint is None:
            self._checkpoint = await asyncio.to_thread(Checkpoint.open, self._weights)
        return self._checkpoint

    def serve(self, number: int) -> None:
        """From now on the session of this number is served: its first stream can begin."""
        member = self._members[number]
        member.served = True
        if self._broken is not None:
            self._start(member)

    async def reach(self, replica: Replica, route: Route) -> Commit:
        """Where a route leads, stepped beside all worlds of its replica. Raises UserError."""
        return await walk(replica, next(self._numbers), route, self.info.latents_per_step)

    async def leave(self, number: int) -> None:
        """A session ends; its world is forgotten."""
        member = self._members.pop(number, None)
        if member is None:
            return
        await cancel(*member.loops)
        if member.replica is not None and not self.groups.lost:
            member.replica.forget(number)

    async def close(self) -> None:
        """End everything. Idempotent; also right while the workers load."""
        work, self._work = self._work, None
        if work is not None:
            await cancel(work)
        await self.groups.close()

    def _say(self, stage: str, percent: float | None, message: str) -> None:
        for member in list(self._members.values()):
            member.session.say(stage, percent, message)

    def _tell(self, about: str, message: str) -> None:
        for member in list(self._members.values()):
            member.session.say.tell(about, message)

    async def _run(self) -> None:
        """Serve until a fault that cannot be mended, which every session then hears of."""
        tasks = [
            asyncio.create_task(self._serve_for_ever()),
            asyncio.create_task(self.prompts.keep()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            error = done.pop().exception() or RuntimeError("the fleet ended")
            for member in list(self._members.values()):
                member.session.fail(error)
        finally:
            await cancel(*tasks)

    async def _serve_for_ever(self) -> None:
        while True:
            try:
                await self._serve()
            except Fault as fault:
                if not await self._end_guilty(fault):
                    await self._mend(fault)

    async def _serve(self) -> None:
        """Let all sessions be served until something breaks: Fault."""
        for replica in self.groups.replicas:
            replica.turns = Turns()
        self._broken = broken = asyncio.get_running_loop().create_future()
        watch = asyncio.create_task(self.groups.watch())
        watch.add_done_callback(self._stopped)
        try:
            for member in self._served():
                self._start(member)
            await broken
        finally:
            self._broken = None
            await cancel(watch, *(task for member in self._served() for task in member.loops))

    def _start(self, member: _Member) -> None:
        member.loops = [asyncio.create_task(loop) for loop in member.session.loops()]
        for task in member.loops:
            task.add_done_callback(functools.partial(self._stopped, member=member))

    def _stopped(self, task: "asyncio.Task[None]", member: _Member | None = None) -> None:
        if task.cancelled() or self._broken is None or self._broken.done():
            return
        self._struck = member
        error = task.exception() or RuntimeError("a loop of the fleet came to an end")
        self._broken.set_exception(error)

    async def _end_guilty(self, fault: Fault) -> bool:
        """End a world whose steps a living worker refuses once more (what is in it makes no
        picture), before it costs the others more than a repair; whether it was that."""
        member, now = self._struck, time.monotonic()
        if member is None or member not in self._served() or not fault.refused:
            return False
        again = now - member.refused < FAULT_SECONDS
        member.refused = now
        if again:
            await self._end(member, fault)
        return again

    async def _end(self, member: _Member, fault: Fault) -> None:
        await self.leave(member.number)
        member.session.fail(RuntimeError(f"this world cannot go on: {fault}"))

    async def _mend(self, fault: Fault) -> None:
        """Replace what broke, set every world back to its newest commit, and let the sessions ask
        again for what was under way.

        Another death meanwhile only makes the repair longer. Raises RuntimeError when it leads
        nowhere."""
        began = time.monotonic()
        self._faults.count(fault)
        hurt = self._served()
        for member in hurt:
            member.session.broke(fault)
        while True:
            try:
                await self.groups.mend(fault)
                await self.groups.unless_lost(self._rewind())
                break
            except Fault as another:
                self._faults.again(another)
                fault = another
        for member in filter(self._served().__contains__, hurt):
            member.session.go_on(time.monotonic() - began)

    async def _rewind(self) -> None:
        """Set every world back; one that cannot stand there is ended."""
        on_their_way = [(member, member.session.rewind()) for member in self._served()]
        for member, rewound in on_their_way:
            try:
                await rewound.hold(FIRST_STEP_SECONDS)
            except Fault as fault:
                if not fault.refused:
                    raise
                await self._end(member, fault)

    def _served(self) -> list[_Member]:
        return [member for member in self._members.values() if member.served]

"""From a kept moment to one between, in a world beside all others: as it was stepped then, shown to
nobody."""

import asyncio
import time
from typing import Final

from actors.owned import owned
from actors.records import StepOrder
from actors.repair import Fault, watched
from actors.replica import Replica
from actors.timeline import Commit, Route, Timeline
from configs.errors import UserError

WALK_SECONDS: Final = 30.0  # for a few steps, made where the worlds that are shown leave time
PATIENT_SECONDS: Final = 2.0  # that a step lets every world go before it


async def walk(replica: Replica, number: int, route: Route, window: int) -> Commit:
    """Where ``route`` leads, W = ``window`` latents a step; ``number`` is nobody's world, and is
    forgotten again. Raises UserError when something breaks or takes too long meanwhile."""
    try:
        async with asyncio.timeout(WALK_SECONDS):
            return await _walk(replica, number, route, window)
    except (Fault, TimeoutError):
        raise UserError("the workers are being mended or are too busy; try again later") from None
    finally:
        replica.forget(number)


async def _walk(replica: Replica, number: int, route: Route, window: int) -> Commit:
    timeline, told = Timeline(window, route), route.commit.prompt
    await replica.rewind(number, route.commit).hold(WALK_SECONDS)
    whole = True
    for at in range(0, len(route.way), window):
        labels = tuple(label for label, _ in route.way[at : at + window])
        if (prompt := route.way[at][1]).text != told.text:
            told = prompt
        await replica.turns.take(time.monotonic() + PATIENT_SECONDS)
        order = StepOrder(timeline.next_index, labels, 0)
        step = replica.step_in_turn(number, order, told, time.monotonic())
        timeline.next_index += window
        timeline.under_way.append(step)
        replies = await watched(replica.dit, step.replies, WALK_SECONDS)
        slices = await watched(replica.vae, step.slices, WALK_SECONDS)
        timeline.done(step, owned(await step.chunk), replies[0], slices)
        whole = bool(len(slices[0].frames))
    if not whole:
        raise UserError("this moment's frames are made with the next latent's: take the next one")
    return timeline.commit

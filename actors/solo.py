"""The DiT group alone: latents as fast as it makes them, for measuring and for work on the
transformer."""

import contextlib
import time
from collections.abc import AsyncGenerator, Callable

from actors.cluster import Cluster
from actors.dit import DitWorker
from actors.gang import TEXT_SHARE, Gang
from actors.layout import Layout
from actors.records import StepOrder, StepReply
from actors.text import TextWorker
from configs.choice import WeightChoice
from models.controls import STRAIGHT_ON


async def latents(
    weights: WeightChoice,
    layout: Layout,
    *,
    seed: int,
    prompt: str,
    window: int,
    address: str | None,
    say: Callable[[str], None],
) -> AsyncGenerator[tuple[float, float], None]:
    """Yield (seconds on rank 0, seconds there and back) of every outer step, for ever; ``window``
    latents each.

    Close the iterator to end the workers. ``address`` joins a cluster that exists.
    """
    say(f"joining {address}" if address else "starting Ray")
    cluster = await (Cluster.attach(address) if address else Cluster.start(layout))
    text = dit = None
    try:
        layout = cluster.fit(layout)
        await cluster.reserve(layout)
        say(f"loading the transformer: {layout.dit} {'GPUs' if layout.gpus else 'CPU workers'}")
        text = Gang("text", TextWorker, weights, cluster, [layout.text], TEXT_SHARE)
        dit = Gang("dit", DitWorker, weights, cluster, range(layout.dit))
        await _load(text, dit, seed, prompt)
        say("running; Ctrl-C ends it")
        index = 0
        while True:
            asked = time.monotonic()
            reply = await _step(dit, index, window)
            index += window
            yield reply.seconds, time.monotonic() - asked
    finally:
        with contextlib.suppress(Exception):
            for gang in (text, dit) if not cluster.own else ():
                if gang is not None:
                    await gang.end()
        await cluster.close()


async def _step(dit: Gang, index: int, window: int) -> StepReply:
    """One outer step of every rank; what rank 0 says of it."""
    order = StepOrder(index, (STRAIGHT_ON,) * window)
    replies: list[StepReply] = [await reply for _, reply in dit.ask("step", 0, order, returns=2)]
    return replies[0]


async def _load(text: Gang, dit: Gang, seed: int, prompt: str) -> None:
    """Load both groups, read the prompt, and stand at latent 0; the text worker goes again."""
    await text.start()
    embedding, _ = await text.ask("encode", prompt)[0]
    await dit.start()
    for reply in dit.ask("reset", 0, seed, prompt, embedding):
        await reply
    await text.end()

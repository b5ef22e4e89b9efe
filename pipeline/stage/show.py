"""The show: one world, one 16 FPS pacer, any number of viewers.

ChunkSource (actors over Ray, or a program in a child process) -> Show -> web gateway, or nobody at
all (headless). Everything runs on one event loop; nothing here blocks or imports Ray, torch or
HTTP.
"""

import asyncio
import functools
import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from actors.source import ChunkSource, Notice, StageReport, Take, WorldInfo
from actors.tasks import cancel, together
from configs.errors import UserError
from configs.limits import check_seed
from pipeline.stage.audience import Audience, Event, ShownFrame, Subscription
from pipeline.stage.clock import Clock
from pipeline.stage.controls import Controls
from pipeline.stage.figures import Figures
from pipeline.stage.life import Life
from pipeline.stage.past import Opening, Past
from pipeline.stage.prompts import Prompts
from pipeline.stage.recordings import Recordings
from pipeline.stage.script import Script
from pipeline.stage.tape import Tape
from pipeline.stage.tempo import TempoWatch

STATS_SECONDS: Final = 1.0
FLOW_SECONDS: Final = 5.0  # without a frame: they do not flow
UNSEEN_LATENTS: Final = 8  # two seconds: who comes later has missed how a world begins


class Show:
    """Plays a source at its frame rate to any number of viewers, records it, and counts.

    ``run()`` is the whole life: start the source, play until ``stop()``, the duration or an
    unmendable fault. Viewers may subscribe before it: they see the source load.
    """

    def __init__(
        self,
        source: ChunkSource,
        *,
        seed: int,
        prompt: str,
        opening: Opening | None = None,
        takes: Sequence[Take] = (),
        stop_after_takes: bool = False,
        duration: float | None = None,
        just_in_time: bool = True,
        anew: bool = False,
        recordings: Path = Path("recordings"),
    ) -> None:
        """opening: where it begins, if not at latent 0 of ``seed`` and ``prompt``. takes: drives to
        follow first. duration: seconds of shown stream from the first frame.

        just_in_time=False lets steps start as early as they can (to measure what the difference
        is). anew: what nobody saw begins again for the first viewer. recordings: folder for
        recordings that name no path; made when the first one starts.
        """
        self.source = source
        self.figures = Figures()
        self._audience = Audience()
        self.tape = Tape(source.info, check_seed(seed), self._audience)
        self.recordings = Recordings(source.info, self.tape, self._audience, recordings)
        self.past = Past(source, self.tape, self.recordings, opening)
        self._script = Script(takes, stop_after_takes, duration)
        self._prompts = Prompts(prompt, source, self._audience)
        self._controls = Controls(source, self._audience)
        self._tempo = TempoWatch(source.info)
        self._clock = Clock(source, just_in_time, self.figures.lapse)
        self._life = Life()
        self._anew = anew
        if opening is not None:
            self.tape.rewind(opening.led, self.epoch)
            self._clock.playhead.rewind(self.epoch, opening.moment.latent)

    # -- life --------------------------------------------------------------------------------------

    async def run(self, loaded: "Callable[[Show], object] | None" = None) -> None:
        """Start the source and play. Returns when stopped or ``duration`` is over; raises
        RuntimeError or UserError. loaded: called once the source has started, before anything is
        shown."""
        work = asyncio.create_task(self._play(loaded))
        stopped = asyncio.create_task(self._life.stopped())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        except Exception as error:
            self._life.reason = str(error)
            raise
        finally:
            self._life.end()
            await cancel(work, stopped)
            await self._prompts.close()
            await self.recordings.close()
            self.tape.close()
            self._audience.tell("bye", reason=self._life.reason)
            self._audience.dismiss()
            await self.source.close()

    def stop(self, reason: str = "") -> None:
        """End the show; ``run`` finishes the recording and returns."""
        self._life.stop(reason)

    @property
    def info(self) -> WorldInfo:
        """What is shown."""
        return self.source.info

    @property
    def seed(self) -> int:
        """Of the world that is shown."""
        return self.tape.seed

    @property
    def prompt(self) -> str:
        """In force: what the newest frames follow."""
        return self._prompts.text

    @property
    def held(self) -> str:
        """The label that is held."""
        return self._controls.held

    @property
    def paused(self) -> bool:
        return self._clock.paused

    @property
    def epoch(self) -> int:
        """Rises with every reset and every rebuild after a fault."""
        return self._clock.playhead.epoch

    @property
    def state(self) -> str:
        """One of "starting", "playing", "paused", "rebuilding", "ended"."""
        return "paused" if self._life.state == "playing" and self.paused else self._life.state

    @property
    def ready(self) -> bool:
        """Frames flow (or would, were it not paused): what /readyz says."""
        newest = self._audience.newest
        if self._life.state != "playing" or newest is None:
            return False
        return self.paused or time.monotonic() - newest.stamps["shown"] < FLOW_SECONDS

    @property
    def busy(self) -> bool:
        """Somebody watches, or it does what was asked for: a script, a duration, a recording."""
        wanted = self._script.current is not None or self._script.duration is not None
        written = self.tape.logged or self.recordings.running is not None
        return wanted or written or self.viewers > 0

    @property
    def failures(self) -> list[str]:
        """A line for every file that is not whole."""
        return [*self.tape.failures, *self.recordings.failures]

    # -- viewers -----------------------------------------------------------------------------------

    def subscribe(self, *, viewer: bool = True) -> Subscription:
        """Join the viewers, or (``viewer=False``, as the terminal does) follow the show without
        being counted as one.

        It first receives the state of things: last status, reset, paused, prompt, record and the
        newest frame. Leave with ``Subscription.close()``.
        """
        if viewer and self._anew:
            self._anew = False
            if self.latent >= UNSEEN_LATENTS and not self.busy:
                self.reset()
        return self._audience.join(
            Event("status", asdict(self._life.report)),
            Event("reset", self._place()),
            Event("paused", {"paused": self.paused}),
            Event("prompt", self._prompts.newest()),
            *self.recordings.news(),
            viewer=viewer,
        )

    @property
    def viewers(self) -> int:
        """How many watch."""
        return self._audience.viewers

    @property
    def newest(self) -> ShownFrame | None:
        """The frame on the screen."""
        return self._audience.newest

    def status(self) -> StageReport:
        """The newest stage report."""
        return self._life.report

    # -- what a driver may do ----------------------------------------------------------------------

    def hold(self, label: str) -> int:
        """Hold ``label`` from now on and return its cursor; the latest call wins. Holding the label
        that is held already changes nothing and returns its cursor. Raises UserError for an unknown
        label. A ``receipt`` event follows with the first frame it conditioned."""
        return self._controls.hold(label)

    def set_prompt(self, text: str) -> int:
        """Change the prompt and return its version; ``prompt`` events say pending, then shown or
        failed. Raises UserError for an empty, over-long or unprintable text, and while a drive is
        replayed, which has its own."""
        if self._script.left(self.latent) is not None:
            raise UserError("a drive is replayed, with prompts of its own; yours is taken after it")
        return self._prompts.add(text)

    def pause(self) -> None:
        """Stop the clock of the world. Idempotent."""
        self._set_paused(True)

    def resume(self) -> None:
        """Go on. Idempotent."""
        self._set_paused(False)

    def reset(self, seed: int | None = None) -> int:
        """Begin again with ``seed`` (None = the same), same prompt, and return the seed. A
        ``reset`` event follows. Raises UserError for an impossible seed. Ends a replay."""
        seed = self.seed if seed is None else check_seed(seed)
        self.past.leave(self.latent)
        self._script.drop()
        self._restart(seed, None)
        return seed

    def replay(self, takes: Sequence[Take]) -> None:
        """Begin again and follow ``takes`` (see ``recording.read_control_log``), then go on by
        hand. UserError."""
        self._script.follow(takes)
        self.past.leave(self.latent)
        self._next_take()

    def take(self) -> Take:
        """The drive since the last reset, as far as it was shown: what a replay link needs."""
        return self.tape.take()

    # -- going back --------------------------------------------------------------------------------

    @property
    def latent(self) -> int:
        """The one on the screen; -1 before the first of a stream."""
        newest = self._audience.newest
        return newest.latent if newest is not None and newest.epoch == self.epoch else -1

    def rewind(self, latent: int) -> None:
        """Go back to before ``latent`` of this world and on from there by hand, under the prompt of
        then. A ``rewound`` event follows. Raises UserError. Ends a replay."""
        self.open(self.past.at(latent, self.latent))

    def open(self, opening: Opening) -> None:
        """Go on from a moment: of another drive, or of the one that was left (``past.left``). A
        ``rewound`` event follows. Raises UserError while all is loading. Ends a replay."""
        if self._life.state == "starting":
            raise UserError("the world is still loading; try again in a moment")
        self.past.leave(self.latent)
        self._open(opening)

    # -- figures -----------------------------------------------------------------------------------

    @property
    def drops(self) -> int:
        """Frames that a viewer did not take in time, all viewers together."""
        return self._audience.dropped

    @property
    def overtaken(self) -> int:
        """Frames that came after the reset that made them worthless."""
        return self._clock.playhead.overtaken

    def stats(self) -> dict[str, Any]:
        """Figures of the last moments and totals, plain JSON:

        ``state, epoch, frame, oldest`` (latent to go back to, None = none), ``seed, follows`` (latents
        to come of the drive that is replayed, None = none is), ``engine, viewers,
        fps_generated, fps_shown, queue_depth`` (frames ready, not yet shown), ``frames, seconds,
        stalls, late_slots, restarts, drops, lead_ms, margin_ms``; ``slow`` (one line while the
        machine does not hold the frame rate, else ""); ``control_to_frame_ms``, ``step_ms,
        decode_ms`` {p50, p95, p99}; ``split_ms`` {wait, queue, dit, hop, decode, back, pacing},
        each {p50, p95}.
        """
        lead, newest = self._clock.playhead.lead, self._audience.newest
        return {
            "state": self.state,
            "epoch": self.epoch,
            "frame": newest.index if newest else None,
            "oldest": self.past.oldest(self.latent),
            "seed": self.seed,
            "follows": self._script.left(self.latent),
            "engine": self.info.engine,
            "viewers": self.viewers,
            "queue_depth": self._clock.playhead.depth,
            "drops": self.drops,
            "lead_ms": None if math.isinf(lead.seconds) else round(1000 * lead.seconds, 1),
            "margin_ms": round(1000 * lead.margin, 1),
            "slow": self._tempo.line,
            **self.figures.stats(time.monotonic()),
        }

    # -- the loops ---------------------------------------------------------------------------------

    async def _play(self, loaded: "Callable[[Show], object] | None") -> None:
        moment = self.past.take_opening()
        await self.source.start(self.seed, self.prompt, self._report, moment)
        if loaded is not None:
            loaded(self)
        _freeze()
        self._life.play()
        self._next_take()
        self._clock.pace()
        await together(
            self._receive(),
            self._present(),
            self._publish_stats(),
            self._clock.beat(),
        )

    async def _receive(self) -> None:
        while True:
            chunk = await self.source.next()
            if not self._clock.playhead.admit(chunk):
                continue
            self._life.play()
            self.figures.chunk(len(chunk.frames), chunk.stamps)
            self._clock.wake()

    async def _present(self) -> None:
        """Show one frame per slot."""
        while True:
            self._next_frame(await self._clock.slot())

    async def _publish_stats(self) -> None:
        while True:
            await asyncio.sleep(STATS_SECONDS)
            if self._tempo.look(self.figures, time.monotonic()):
                self._audience.warn(self._tempo.line, about="speed")
            self._audience.tell("stats", **self.stats())

    # -- one frame ---------------------------------------------------------------------------------

    def _next_frame(self, now: float) -> None:
        if self._is_time_over(now):
            self._clock.playhead.rewind(self.epoch)
            return self.stop("the duration is over")
        frame, placed, steered = self._clock.playhead.advance(now)
        self.figures.frame(now, placed)
        frame = replace(frame, stamps={**frame.stamps, "shown": now})
        if steered is not None:
            frame = self._first_of_latent(frame, steered)
        self._audience.offer(frame)
        self.recordings.add(frame)
        latents, rest = divmod(frame.index + 1, self.info.frames_per_latent)
        if not rest and self._script.is_over_with(latents):
            self._next_take()
            if self._script.current is None and self._script.stops_after:
                self.stop("the script is over")
        self._clock.pace()

    def _is_time_over(self, now: float) -> bool:
        if self._script.duration is None:
            return False
        return self.figures.shown.until(now) >= self._script.duration - 0.5 / self.info.fps

    def _first_of_latent(self, frame: ShownFrame, steered: str) -> ShownFrame:
        """Log the latent; tell which control and prompt came through with it; count its delays."""
        self.tape.latent(frame.epoch, steered, frame.prompt)
        self.figures.latent(frame.stamps)
        self._prompts.came_through(frame)
        scripted = self._script.current is not None
        answered = self._controls.came_through(frame, scripted)
        if self._audience.newest is None:  # what was held while everything loaded tells no delay
            return frame
        if "received" in answered.stamps:
            self.figures.controlled(answered.stamps)
        return answered

    # -- steering the source -----------------------------------------------------------------------

    def _set_paused(self, paused: bool) -> None:
        if paused == self.paused:
            return
        count = self.figures.pause if paused else self.figures.go_on
        count(time.monotonic())
        self._audience.tell("paused", paused=paused)
        self._clock.set_paused(paused)

    def _restart(self, seed: int, take: Take | None) -> None:
        led = Take(seed, (), ())
        if take is not None:
            led = Take(seed, take.labels[: take.first], take.prompts[: take.first])
        self._go_to(led, self.source.reset(seed, take))
        latent = {"latent": take.first} if take is not None and take.first else {}
        self._audience.tell("rewound" if latent else "reset", **latent, **self._place())

    def _open(self, opening: Opening) -> None:
        self._script.drop()
        for frame in self._clock.playhead.take_rest():  # a control log speaks of whole latents
            self.recordings.add(frame)
        self._go_to(opening.led, self.source.open(opening.moment))
        self.past.rewinds += 1
        self._prompts.go_back(opening.moment.prompt)
        self._audience.tell("rewound", latent=opening.moment.latent, **self._place())

    def _go_to(self, led: Take, epoch: int) -> None:
        """What comes next is what ``led`` leads to."""
        self._clock.playhead.rewind(epoch, len(led.labels))
        self.tape.rewind(led, epoch)
        self.figures.reset_asked(time.monotonic())
        self._clock.wake()

    def _place(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "seed": self.seed, "prompt": self.prompt}

    def _next_take(self) -> None:
        """The next drive of the script from its first latent, if there is one."""
        take = self._script.turn_page()
        if take is not None:
            self._restart(take.seed, take)

    def _report(self, report: StageReport | Notice) -> None:
        if isinstance(report, Notice):
            return self._audience.warn(report.message, report.about)
        if self._life.hear(report):
            self.figures.broken()
            self._clock.playhead.rest()
        self._audience.tell("status", **asdict(report))


@functools.cache
def _freeze() -> None:
    """Once: a full round of the collector over all that is loaded by now takes longer than a frame's
    slot; what a world leaves behind must stay collectable. (To ask how much is frozen, which counts
    it, takes half a slot.)"""
    gc.freeze()

"""The show: one world, one 16 FPS pacer, any number of viewers.

ChunkSource (actors over Ray, or a program in a child process) -> Show -> web gateway, or nobody at
all (headless). Everything runs on one event loop; nothing here blocks or imports Ray, torch or
HTTP.
"""

import asyncio
import gc
import math
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from actors.source import ChunkSource, StageReport, Take, WorldInfo
from configs.errors import UserError
from configs.limits import check_prompt, check_seed
from models.controls import label_id
from pipeline.stage.audience import Audience, Event, ShownFrame, Subscription
from pipeline.stage.figures import Figures
from pipeline.stage.recording import Recorder, Tape
from pipeline.stage.slots import Player

STRAIGHT_ON: Final = "D"  # no key held
PENDING_CONTROLS: Final = (
    256  # controls that wait for their first frame; older ones are superseded anyway
)
STATS_SECONDS: Final = 1.0


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
        takes: Sequence[Take] = (),
        stop_after_takes: bool = False,
        duration: float | None = None,
        just_in_time: bool = True,
        recordings: Path = Path("recordings"),
    ) -> None:
        """takes: drives to follow first. duration: seconds of shown stream from the first frame.

        just_in_time=False lets steps start as early as they can (to measure what the difference
        is). recordings: folder for recordings that name no path; made when the first one starts.
        """
        self.source = source
        self.info: WorldInfo = source.info
        self.seed = check_seed(seed)
        self.prompt = check_prompt(prompt)
        self.paused = False
        self.figures = Figures()
        self.overtaken = 0  # frames that came after the reset that made them worthless
        self.tape = Tape(self.info, recordings)
        self.begun = time.monotonic()
        self._duration = duration
        self._takes = deque(takes)
        self._stop_after_takes = stop_after_takes
        self._take: Take | None = (
            None  # in charge of labels and prompts, until its last frame is shown
        )
        self._audience = Audience()
        self._player = Player(1 / self.info.fps, self.info.frames_per_latent, just_in_time)
        self._state = "starting"
        self._status = StageReport("starting", 0.0, "starting", 0.0)
        self._newest: ShownFrame | None = None
        self._held, self._cursor = STRAIGHT_ON, 0
        self._pending: deque[tuple[int, str, float]] = deque(maxlen=PENDING_CONTROLS)
        self._label = STRAIGHT_ON  # conditioned into the newest frame
        self._prompts = {0: self.prompt}
        self._shown_prompt = -1
        self._prompt_order = asyncio.Lock()
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._reason = ""
        self._chores: set[asyncio.Task[None]] = set()

    # -- life --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start the source and play. Returns when stopped or ``duration`` is over; raises
        RuntimeError or UserError."""
        self.begun = time.monotonic()
        work = asyncio.create_task(self._play())
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        except Exception as error:
            self._reason = str(error)
            raise
        finally:
            self._state = "ended"
            await _cancel(work, ended, *self._chores)
            await self.stop_recording()
            self.tape.close()
            self._audience.tell("bye", reason=self._reason)
            self._audience.dismiss()
            await self.source.close()

    def stop(self, reason: str = "") -> None:
        """End the show; ``run`` finishes the recording and returns."""
        self._reason = self._reason or reason
        self._ended.set()

    @property
    def epoch(self) -> int:
        """Rises with every reset and every rebuild after a fault."""
        return self._player.epoch

    @property
    def state(self) -> str:
        """One of "starting", "playing", "paused", "rebuilding", "ended"."""
        return "paused" if self._state == "playing" and self.paused else self._state

    @property
    def ready(self) -> bool:
        """Frames flow (or would, were it not paused): what /readyz says."""
        return self._state == "playing" and self._newest is not None

    # -- viewers -----------------------------------------------------------------------------------

    def subscribe(self, *, viewer: bool = True) -> Subscription:
        """Join the viewers, or (``viewer=False``, as the terminal does) follow the show without
        being counted as one.

        It first receives the state of things: last status, reset, paused, prompt, record and the
        newest frame. Leave with ``Subscription.close()``.
        """
        past = [
            Event("status", asdict(self._status)),
            Event("reset", {"epoch": self.epoch, "seed": self.seed, "prompt": self.prompt}),
            Event("paused", {"paused": self.paused}),
            Event("prompt", self._prompt_event(len(self._prompts) - 1)),
        ]
        if self.tape.recorder is not None:
            past.append(Event("record", self._record_event("started", self.tape.recorder)))
        subscription = self._audience.join(*past, viewer=viewer)
        if self._newest is not None:
            subscription.offer(self._newest)
        return subscription

    @property
    def viewers(self) -> int:
        """How many watch."""
        return self._audience.viewers

    def status(self) -> StageReport:
        """The newest stage report."""
        return self._status

    # -- what a driver may do ----------------------------------------------------------------------

    def hold(self, label: str) -> int:
        """Hold ``label`` from now on and return its cursor; the latest call wins. Holding the label
        that is held already changes nothing and returns its cursor. Raises UserError for an unknown
        label. A ``receipt`` event follows with the first frame it conditioned."""
        label_id(label)
        if label != self._held or not self._cursor:
            self._held = label
            self._cursor += 1
            self._pending.append((self._cursor, label, time.monotonic()))
            self.source.hold(label, self._cursor)
        return self._cursor

    def set_prompt(self, text: str) -> int:
        """Change the prompt and return its version; ``prompt`` events say pending, then shown or
        failed. Raises UserError for an empty, over-long or unprintable text."""
        text = check_prompt(text)
        version = len(self._prompts)
        self._prompts[version] = text
        self._audience.tell("prompt", **self._prompt_event(version))
        self._chore(self._encode(version, text))
        return version

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
        self._takes.clear()
        self._begin(seed, None)
        return seed

    def replay(self, takes: Sequence[Take]) -> None:
        """Begin again and follow ``takes`` (see ``recording.read_control_log``), then go on by
        hand. UserError."""
        for take in takes:
            check_seed(take.seed)
            for label in set(take.labels):
                label_id(label)
            for prompt in set(take.prompts):
                check_prompt(prompt)
        if not takes or not all(take.labels for take in takes):
            raise UserError("replay: expected at least one latent, got none")
        self._takes = deque(takes)
        self._next_take()

    def take(self) -> Take:
        """The drive since the last reset, as far as it was shown: what a replay link needs."""
        return self.tape.take(self.seed)

    # -- recording ---------------------------------------------------------------------------------

    @property
    def recordings(self) -> dict[str, Path]:
        """Files of this run by name: videos and control logs."""
        return self.tape.files

    def start_recording(self, path: Path | None = None) -> Path:
        """Write every frame shown from now on to ``path`` (fragmented mp4, playable at any moment),
        and the whole drive since the last reset to a control log beside it (``.jsonl``). Returns
        the path; None picks a name.

        Raises UserError if a recording runs already or a file exists.
        """
        recorder = self.tape.record(path, self.epoch, self.seed)
        self._audience.tell("record", **self._record_event("started", recorder))
        return recorder.path

    async def stop_recording(self) -> Path | None:
        """Finish the recording; returns its path, or None if none ran."""
        recorder = self.tape.stop()
        if recorder is None:
            return None
        await asyncio.to_thread(recorder.close)
        self._audience.tell(
            "record", **self._record_event("failed" if recorder.error else "stopped", recorder)
        )
        return recorder.path

    def log_controls(self, path: Path) -> None:
        """Write the drive since the last reset, and from now on, to ``path``. Raises UserError if
        the file exists."""
        self.tape.log(path, self.epoch, self.seed)

    # -- figures -----------------------------------------------------------------------------------

    @property
    def drops(self) -> int:
        """Frames that a viewer did not take in time, all viewers together."""
        return self._audience.dropped

    def stats(self) -> dict[str, Any]:
        """Figures of the last moments and totals, plain JSON:

        ``state, epoch, frame, seed, viewers, fps_generated, fps_shown, queue_depth`` (frames ready,
        not yet shown), ``frames, seconds, stalls, late_slots, restarts, drops, lead_ms,
        margin_ms``; ``control_to_frame_ms``, ``step_ms, decode_ms`` {p50, p95, p99}; ``split_ms``
        {wait, queue, dit, hop, decode, back, pacing}, each {p50, p95}.
        """
        lead = self._player.lead
        return {
            "state": self.state,
            "epoch": self.epoch,
            "frame": self._newest.index if self._newest else None,
            "seed": self.seed,
            "viewers": self.viewers,
            "queue_depth": self._player.depth,
            "drops": self.drops,
            "lead_ms": None if math.isinf(lead.seconds) else round(1000 * lead.seconds, 1),
            "margin_ms": round(1000 * lead.margin, 1),
            **self.figures.stats(time.monotonic()),
        }

    # -- the loops ---------------------------------------------------------------------------------

    async def _play(self) -> None:
        await self.source.start(self.seed, self.prompt, self._report)
        # a full round of the collector over all that is loaded by now takes longer than a frame's
        # slot
        gc.freeze()
        self._state = "playing"
        if self._takes:
            self._next_take()
        self._pace()
        loops = [
            asyncio.create_task(loop)
            for loop in (self._receive(), self._pacer(), self._publish_stats())
        ]
        try:
            await asyncio.gather(*loops)
        finally:
            await _cancel(*loops)

    async def _receive(self) -> None:
        while True:
            chunk = await self.source.next()
            if not self._player.admit(chunk):
                self.overtaken += len(chunk.frames)
                continue
            self._state = "playing"
            self.figures.chunk(len(chunk.frames), chunk.stamps)
            self._changed.set()
            self._pace()

    async def _pacer(self) -> None:
        """Show one frame per slot. Sleeps until the frame is due or something changes."""
        loop = asyncio.get_running_loop()
        while True:
            now, due = time.monotonic(), self._player.due
            waiting = bool(self._player.depth) and not self.paused
            if waiting and (due is None or due <= now):
                self._show(now)
                continue
            self._changed.clear()
            alarm = (
                loop.call_later(due - now, self._changed.set)
                if waiting and due is not None
                else None
            )
            await self._changed.wait()
            if alarm is not None:
                alarm.cancel()

    async def _publish_stats(self) -> None:
        while True:
            await asyncio.sleep(STATS_SECONDS)
            self._audience.tell("stats", **self.stats())

    # -- one frame ---------------------------------------------------------------------------------

    def _show(self, now: float) -> None:
        if (
            self._duration is not None
            and self.figures.shown.until(now) >= self._duration - 0.5 / self.info.fps
        ):
            self._player.begin(self.epoch)
            return self.stop("the duration is over")
        frame, showing, steered = self._player.show(now)
        self.figures.frame(now, showing)
        frame = replace(frame, stamps={**frame.stamps, "shown": now})
        if steered is not None:
            frame = self._first_of_latent(frame, steered)
        self._newest = frame
        self._audience.show(frame)
        self._record(frame)
        if (
            self._take is not None
            and frame.index + 1 == len(self._take.labels) * self.info.frames_per_latent
        ):
            self._end_take()
        self._pace()

    def _first_of_latent(self, frame: ShownFrame, steered: str) -> ShownFrame:
        """Log the latent; tell which control and prompt came through with it; count its delays."""
        for failure in self.tape.latent(frame.epoch, steered, frame.prompt, self.seed):
            self._audience.tell("notice", level="warning", message=failure)
        self.figures.latent(frame.stamps)
        if frame.prompt_version > self._shown_prompt or frame.prompt != self.prompt:
            self._shown_prompt, self.prompt = frame.prompt_version, frame.prompt
            text = {"text": frame.prompt, "state": "shown", "message": ""}
            self._audience.tell("prompt", version=frame.prompt_version, **text)
        received = self._receipt(frame)
        if received is None and self._take is not None and frame.label != self._label:
            received = frame.stamps.get(
                "sampled"
            )  # a script's key press: it is never early or late
        self._label = frame.label
        if (
            received is None or self._newest is None
        ):  # what was held while everything loaded tells no delay
            return frame
        frame = replace(frame, stamps={"received": received, **frame.stamps})
        self.figures.controlled(frame.stamps)
        return frame

    def _receipt(self, frame: ShownFrame) -> float | None:
        """When the control that this frame is the first to show was received; None if it shows no
        new one."""
        received = None
        while self._pending and self._pending[0][0] <= frame.cursor:
            cursor, label, when = self._pending.popleft()
            if cursor == frame.cursor:
                received = when
                place = {"frame": frame.index, "latent": frame.latent, "epoch": frame.epoch}
                self._audience.tell("receipt", cursor=cursor, label=label, **place)
        return received

    def _record(self, frame: ShownFrame) -> None:
        recorder = self.tape.recorder
        if recorder is not None and not recorder.add(frame.image):
            self._audience.tell(
                "notice", level="warning", message=f"recording ended: {recorder.error}"
            )
            self._chore(self._stop_failed())

    async def _stop_failed(self) -> None:
        await self.stop_recording()

    # -- steering the source -----------------------------------------------------------------------

    def _pace(self) -> None:
        self.source.pace(self._player.pace(self.paused))

    def _set_paused(self, paused: bool) -> None:
        if paused == self.paused:
            return
        self.paused = paused
        self._player.rest()
        self.figures.rest()
        self._audience.tell("paused", paused=paused)
        self._pace()
        self._changed.set()

    def _begin(self, seed: int, take: Take | None) -> None:
        self.seed, self._take = seed, take
        self._player.begin(self.source.reset(seed, take))
        self.tape.begin()
        self.figures.begin(time.monotonic())
        self._audience.tell("reset", epoch=self.epoch, seed=seed, prompt=self.prompt)
        self._pace()
        self._changed.set()

    def _next_take(self) -> None:
        take = self._takes.popleft()
        self._begin(take.seed, take)

    def _end_take(self) -> None:
        self._take = None
        if self._takes:
            self._next_take()
        elif self._stop_after_takes:
            self.stop("the script is over")

    async def _encode(self, version: int, text: str) -> None:
        """Hand a prompt to the source unless a newer one overtook it."""
        async with self._prompt_order:
            if version != len(self._prompts) - 1:
                return
            try:
                await self.source.set_prompt(text, version)
            except (UserError, RuntimeError) as error:
                self._audience.tell(
                    "prompt", version=version, text=text, state="failed", message=str(error)
                )

    def _report(self, report: StageReport) -> None:
        self._status = report
        if report.stage == "rebuilding":
            self._state = "rebuilding"
            self.figures.restarts += 1
            self._player.rest()
        self._audience.tell("status", **asdict(report))

    def _prompt_event(self, version: int) -> dict[str, Any]:
        state = "shown" if version <= self._shown_prompt else "pending"
        return {"version": version, "text": self._prompts[version], "state": state, "message": ""}

    def _record_event(self, state: str, recorder: Recorder) -> dict[str, Any]:
        seconds = round(recorder.frames / self.info.fps, 1)
        return {
            "state": state,
            "name": recorder.path.name,
            "seconds": seconds,
            "message": recorder.error,
        }

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside everything else; the set keeps it alive until it is done."""
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


async def _cancel(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

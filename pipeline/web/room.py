"""Who drives, who watches, and what each of their messages does to the show."""

import math
import time
from typing import Final

from actors.tasks import Tasks
from configs.errors import UserError
from configs.limits import check_prompt, check_seed, quoted, real_number, whole_number
from pipeline.beginning import fresh_seed
from pipeline.stage.audience import Event
from pipeline.stage.show import Show
from pipeline.web import messages
from pipeline.web.access import Right
from pipeline.web.messages import PROTOCOL, Message
from pipeline.web.metrics import Counters
from pipeline.web.quality import Pictures
from pipeline.web.travel import CLOSE_SECONDS, Branch, Handler, Travel
from pipeline.web.viewer import Viewer
from pipeline.web.wheel import Wheel

MOST_VIEWERS: Final = 64
KEPT_SEATS: Final = 4  # more, for those who may drive: no crowd of watchers locks them out
TAKE_SECONDS: Final = 1.0  # between two takes that are put together: a long drive takes a while
LARGEST_COUNT: Final = 2**32 - 1  # of epochs and frames: four bytes of a frame's header


class Room:
    """One driver and any number of viewers around one show.

    The first to come drives; whoever asks takes over (`Wheel`).
    """

    def __init__(self, show: Show, counters: Counters, branch: Branch | None = None) -> None:
        """branch: makes another world of a moment of this one. Raises UserError when there is no
        room for it; None where there is only one world."""
        self.viewers: list[Viewer] = []
        self.wheel = Wheel(show, self._tell_roles)
        self.pictures = Pictures()
        self.travel = Travel(show, self.wheel, self._tell_recordings, branch)
        self._show = show
        self._counters = counters
        self._taken: tuple[float, Message] = (-math.inf, {})  # the last drive, and when
        self._tasks = Tasks()
        self._anyone: dict[str, Handler] = {
            "ack": self._ack,
            "ping": self._ping,
            "photon": self._photon_seen,
            "take": self._take,
            "take_control": lambda viewer, message: self.wheel.take(viewer),
            "video": self._video,
            **self.travel.anyone,
        }
        self._driver_only: dict[str, Handler] = {
            "input": self._input,
            "prompt": self._prompt,
            "pause": lambda viewer, message: show.pause(),
            "resume": lambda viewer, message: show.resume(),
            "reset": self._reset,
            "replay": self._replay,
            "record": self._record,
            "rename": self._rename,
            "delete": self._delete,
            **self.travel.driver_only,
        }

    def join(self, hello: Message, right: Right = Right.DRIVER) -> Viewer:
        """Seat a client that came by a link of this ``right``. Raises UserError when the room is
        full."""
        kept = 0 if right == Right.WATCHER else KEPT_SEATS
        if len(self.viewers) >= MOST_VIEWERS + kept:
            raise UserError(f"the room is full: {len(self.viewers)} are in it; try again later")
        name = messages.text_field(hello, "client", 64, default="")
        video = hello.get("video") is True
        viewer = Viewer(name, self._show.subscribe(), self.pictures, video=video)
        viewer.may_drive = right != Right.WATCHER
        self.viewers.append(viewer)
        info = self._show.info
        world = {
            "name": info.name,
            "model": info.model_hash,
            "width": info.width,
            "height": info.height,
            "fps": info.fps,
            "frames_per_latent": info.frames_per_latent,
            "presets": list(info.presets),
            "pictures": [f"presets/{index}" for index in range(len(info.pictures))],
            "devices": info.devices,
            "engine": info.engine,
            "motion": info.motion,
            "moments": info.moments,
        }
        welcome = {"world": world, "state": self._state(), "keys": list(messages.KEYS)}
        viewer.tell("welcome", protocol=PROTOCOL, link=right, **welcome)
        alone = [other for other in self.viewers if other.may_drive] == [viewer]
        if viewer.may_drive and (alone or self.wheel.awaits(viewer)):
            self.wheel.seat(viewer)
        else:
            self._tell_roles()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a client; the driver's keys are released at once."""
        viewer.close()
        if viewer in self.viewers:
            self.viewers.remove(viewer)
            self._count(viewer)
        if viewer is self.wheel.driver:
            self.wheel.leave()
        self._tell_roles()

    def handle(self, viewer: Viewer, text: str | None) -> None:
        """Do what one message asks (None: it was binary). A bad one is answered with an error and
        changes nothing."""
        try:
            if text is None:
                raise UserError("binary message: expected JSON text")
            message = messages.parse_object(text)
            kind = message["type"]
            if kind in self._anyone:
                self._anyone[kind](viewer, message)
            elif kind in self._driver_only:
                self.wheel.check(viewer)
                self._driver_only[kind](viewer, message)
            else:
                known = ", ".join(sorted({**self._anyone, **self._driver_only}))
                raise UserError(f"message type {quoted(kind)}: expected one of {known}")
        except (UserError, OSError) as error:  # OSError: a file of the run, or its name
            self._counters.refused.labels("message").inc()
            said = error.strerror if isinstance(error, OSError) else None
            viewer.tell("error", message=said or str(error))

    def hear(self, viewer: Viewer, event: Event) -> None:
        """Turn an event of the show into this client's messages."""
        data = dict(event.data)
        if event.kind == "receipt":
            if viewer is self.wheel.driver:
                self.wheel.answer(data)
        elif event.kind == "record":
            viewer.tell(
                "record", **data, files=self._downloads() if data.get("state") != "started" else []
            )
        elif event.kind == "stats":
            self._count(viewer)
            mine = {
                "quality": viewer.ladder.quality,
                "dropped": viewer.dropped,
                "sent_bytes": viewer.sent_bytes,
            }
            viewer.tell("stats", **data, mine=mine)
        else:
            viewer.tell(event.kind, **data)

    async def close(self) -> None:
        """Say goodbye to everybody; pending work is awaited."""
        self.wheel.release()
        for viewer in list(self.viewers):
            viewer.close()
        await self._tasks.finish(CLOSE_SECONDS)
        await self.travel.close()
        self.pictures.close()

    # --- what messages do ---

    def _input(self, viewer: Viewer, message: Message) -> None:
        self.wheel.steer(viewer, messages.parse_input(message))

    def _ack(self, viewer: Viewer, message: Message) -> None:
        epoch = whole_number("epoch", message.get("epoch"), 0, LARGEST_COUNT)
        viewer.acked(epoch, whole_number("frame", message.get("frame"), 0, LARGEST_COUNT))

    def _ping(self, viewer: Viewer, message: Message) -> None:
        clock = message.get("clock", 0)
        real_number("ping clock", clock, -messages.LARGEST_NUMBER, messages.LARGEST_NUMBER)
        if "round_trip" in message:
            viewer.ladder.round_trip = messages.milliseconds(message, "round_trip") / 1000
        viewer.tell("pong", clock=clock, server=time.monotonic())

    def _photon_seen(self, viewer: Viewer, message: Message) -> None:
        self._counters.photon.observe(messages.milliseconds(message, "ms") / 1000)

    def _video(self, viewer: Viewer, message: Message) -> None:
        viewer.video = message.get("on") is True

    def _prompt(self, viewer: Viewer, message: Message) -> None:
        self._show.set_prompt(check_prompt(message.get("prompt")))

    def _reset(self, viewer: Viewer, message: Message) -> None:
        if "seed" in message and message["seed"] is None:
            self._show.reset(fresh_seed())
        else:
            self._show.reset(check_seed(message["seed"]) if "seed" in message else None)

    def _take(self, viewer: Viewer, message: Message) -> None:
        now = time.monotonic()
        if now >= self._taken[0] + TAKE_SECONDS:
            take = self._show.take()
            model, parts = self._show.info.model_hash, messages.take_parts(take)
            told = {"seed": take.seed, "model": model, "latents": len(take.labels), "parts": parts}
            self._taken = now, told
        viewer.tell("take", **self._taken[1])

    def _replay(self, viewer: Viewer, message: Message) -> None:
        model, ours = message.get("model"), self._show.info.model_hash
        if model is not None and model != ours:
            raise UserError(
                f"this drive belongs to another model ({quoted(model)}), this world is {ours}: not replayed"
            )
        self._show.replay([messages.parse_replay(message)])

    def _record(self, viewer: Viewer, message: Message) -> None:
        if not isinstance(message.get("on"), bool):
            raise UserError(f"record on: expected true or false, got {quoted(message.get('on'))}")
        if message["on"]:
            try:
                self._show.recordings.start()
            except OSError as error:  # the folder cannot be made or written, or there is no encoder
                raise UserError(f"recording: it cannot be started ({error})") from None
        else:
            self._tasks.start(self._show.recordings.stop())

    def _rename(self, viewer: Viewer, message: Message) -> None:
        name = messages.text_field(message, "name", 255, default="")
        self._show.recordings.rename(name, messages.text_field(message, "to", 255, default=""))
        self._tell_recordings()

    def _delete(self, viewer: Viewer, message: Message) -> None:
        self._show.recordings.delete(messages.text_field(message, "name", 255, default=""))
        self._tell_recordings()

    def _tell_recordings(self) -> None:
        for viewer in self.viewers:
            viewer.tell("recordings", files=self._downloads())

    # --- the state of things ---

    @property
    def driven(self) -> bool:
        """Somebody has the wheel."""
        return self.wheel.driver is not None

    @property
    def watching(self) -> int:
        """How many do not drive."""
        return len(self.viewers) - self.driven

    def _tell_roles(self) -> None:
        self._counters.clients.labels("viewer").set(self.watching)
        self._counters.clients.labels("driver").set(int(self.driven))
        for viewer in self.viewers:
            role = "driver" if viewer is self.wheel.driver else "viewer"
            viewer.tell("role", role=role, watching=self.watching, driven=self.driven)

    def _count(self, viewer: Viewer) -> None:
        """Add to the figures of /metrics what a viewer was sent and missed since last time."""
        sent, dropped = viewer.uncounted()
        self._counters.sent.inc(sent)
        self._counters.dropped.inc(dropped)

    def _state(self) -> Message:
        show = self._show
        return {
            "state": show.state,
            "seed": show.seed,
            "prompt": show.prompt,
            "epoch": show.epoch,
            "paused": show.paused,
            "files": self._downloads(),
            "branches": self.travel.branches,
        }

    def _downloads(self) -> list[str]:
        """Addresses of this run's recordings that exist by now, seen from the page's own."""
        return [
            f"recordings/{name}"
            for name, path in self._show.recordings.files.items()
            if path.is_file()
        ]

"""Who drives, who watches, and what each of their messages does to the show."""

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from configs.errors import UserError
from configs.limits import check_prompt, check_seed, whole_number
from pipeline.stage.audience import Event
from pipeline.stage.show import Show
from pipeline.web import messages
from pipeline.web.access import Right
from pipeline.web.messages import PROTOCOL, shown
from pipeline.web.metrics import Counters
from pipeline.web.quality import Pictures
from pipeline.web.travel import Branch, Travel
from pipeline.web.viewer import Viewer

MOST_VIEWERS = 64
KEPT_SEATS = 4  # more, for those who may drive: no crowd of watchers locks them out
TAKE_SECONDS = 1.0  # between two takes that are put together: a long drive takes a while
SILENCE = 1.0  # seconds without an input after which the held keys count as released
UNANSWERED = (
    64  # controls that wait for their first frame; older ones are answered by a newer answer
)
STRAIGHT_ON = "D"  # what no key at all means

Message = dict[str, Any]
Handler = Callable[[Viewer, Message], None]


class Room:
    """One driver and any number of viewers around one show.

    The first to come drives; whoever asks takes over. A seat that falls empty waits for its owner's
    page to come back, for a newcomer, or for the first viewer who steers. Who came by a watcher's
    link never drives.
    """

    def __init__(self, show: Show, counters: Counters, branch: Branch | None = None) -> None:
        """branch: makes another world of a moment of this one. Raises UserError when there is no
        room for it; None where there is only one world."""
        self.viewers: list[Viewer] = []
        self.driver: Viewer | None = None
        self.pictures = Pictures()
        self._show = show
        self._counters = counters
        self._owner = ""  # name of the page that drove last
        self._label = STRAIGHT_ON
        self._unanswered: deque[tuple[int, int]] = deque(maxlen=UNANSWERED)  # seq, cursor
        self._last_receipt: Message | None = None
        self._taken: tuple[float, Message] = (-math.inf, {})  # the last drive, and when
        self._silence: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.travel = Travel(
            show, lambda viewer: viewer is self.driver, self._tell_recordings, branch
        )
        self._anyone: dict[str, Handler] = {
            "ack": self._ack,
            "ping": self._ping,
            "photon": self._photon_seen,
            "take": self._take,
            "take_control": self._take_control,
            "video": self._video,
            **self.travel.anyone,
        }
        self._driver_only: dict[str, Handler] = {
            "input": self._input,
            "prompt": lambda _, message: void(show.set_prompt(check_prompt(message.get("prompt")))),
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
            raise UserError(f"the room is full: {MOST_VIEWERS} are watching; try again later")
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
        }
        welcome = {"world": world, "state": self._state(), "keys": list(messages.KEYS)}
        viewer.tell("welcome", protocol=PROTOCOL, link=right, **welcome)
        alone = [other for other in self.viewers if other.may_drive] == [viewer]
        returned = (
            bool(name) and name == self._owner and (self.driver is None or self.driver.name == name)
        )
        if viewer.may_drive and (alone or returned):
            self._seat(viewer)
        else:
            self._tell_roles()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a client; the driver's keys are released at once."""
        viewer.close()
        if viewer in self.viewers:
            self.viewers.remove(viewer)
            self._count(viewer)
        if viewer is self.driver:
            self._release()
            self.driver = None
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
                self._check_driver(viewer)
                self._driver_only[kind](viewer, message)
            else:
                known = ", ".join(sorted({**self._anyone, **self._driver_only}))
                raise UserError(f"message type {shown(kind)}: expected one of {known}")
        except (UserError, OSError) as error:  # OSError: a file of the run, or its name
            self._counters.refused.labels("message").inc()
            said = error.strerror if isinstance(error, OSError) else None
            viewer.tell("error", message=said or str(error))

    def hear(self, viewer: Viewer, event: Event) -> None:
        """Turn an event of the show into this client's messages."""
        data = dict(event.data)
        if event.kind == "receipt":
            if viewer is self.driver:
                self._applied(viewer, data)
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
        self._release()
        for viewer in list(self.viewers):
            viewer.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        await self.travel.close()
        self.pictures.close()

    # --- what messages do ---

    def _input(self, viewer: Viewer, message: Message) -> None:
        given = messages.parse_input(message)
        cursor = self._hold(given.label)
        viewer.tell("received", seq=given.seq, cursor=cursor, label=given.label)
        self._unanswered.append((given.seq, cursor))
        if self._last_receipt is not None and self._last_receipt["cursor"] == cursor:
            self._applied(viewer, self._last_receipt)  # the label was in force already
        self._rearm(given.label)

    def _ack(self, viewer: Viewer, message: Message) -> None:
        epoch = whole_number("epoch", message.get("epoch"), 0, 2**32 - 1)
        viewer.acked(epoch, whole_number("frame", message.get("frame"), 0, 2**32 - 1))

    def _ping(self, viewer: Viewer, message: Message) -> None:
        clock = message.get("clock", 0)
        if (
            isinstance(clock, bool)
            or not isinstance(clock, int | float)
            or not abs(clock) < messages.LARGEST_NUMBER
        ):
            raise UserError(f"ping clock: expected a number, got {shown(clock)}")
        if "round_trip" in message:
            viewer.ladder.round_trip = messages.milliseconds(message, "round_trip") / 1000
        viewer.tell("pong", clock=clock, server=time.monotonic())

    def _photon_seen(self, viewer: Viewer, message: Message) -> None:
        self._counters.photon.observe(messages.milliseconds(message, "ms") / 1000)

    def _video(self, viewer: Viewer, message: Message) -> None:
        viewer.video = message.get("on") is True

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
                f"this drive belongs to another model ({shown(model)}), this world is {ours}: not replayed"
            )
        self._show.replay([messages.parse_replay(message)])

    def _record(self, viewer: Viewer, message: Message) -> None:
        if not isinstance(message.get("on"), bool):
            raise UserError(f"record on: expected true or false, got {shown(message.get('on'))}")
        if message["on"]:
            try:
                self._show.start_recording()
            except OSError as error:  # the folder cannot be made or written, or there is no encoder
                raise UserError(f"recording: it cannot be started ({error})") from None
        else:
            task = asyncio.create_task(self._show.stop_recording())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _rename(self, viewer: Viewer, message: Message) -> None:
        name = messages.text_field(message, "name", 255, default="")
        self._show.tape.rename(name, messages.text_field(message, "to", 255, default=""))
        self._tell_recordings()

    def _delete(self, viewer: Viewer, message: Message) -> None:
        self._show.tape.delete(messages.text_field(message, "name", 255, default=""))
        self._tell_recordings()

    def _tell_recordings(self) -> None:
        for viewer in self.viewers:
            viewer.tell("recordings", files=self._downloads())

    # --- the wheel ---

    def _check_driver(self, viewer: Viewer) -> None:
        _check_link(viewer)
        if self.driver is None:
            self._seat(viewer)
        if viewer is not self.driver:
            raise UserError("you are watching; take control first")

    def _take_control(self, viewer: Viewer, message: Message) -> None:
        _check_link(viewer)
        if viewer is not self.driver:
            self._seat(viewer)

    def _seat(self, viewer: Viewer) -> None:
        if self.driver is not None:
            self._release()
        self.driver, self._owner = viewer, viewer.name
        self._unanswered.clear()
        self._tell_roles()

    def _tell_roles(self) -> None:
        watching = len(self.viewers) - (self.driver is not None)
        self._counters.clients.labels("viewer").set(watching)
        self._counters.clients.labels("driver").set(int(self.driver is not None))
        for viewer in self.viewers:
            role = "driver" if viewer is self.driver else "viewer"
            viewer.tell("role", role=role, watching=watching, driven=self.driver is not None)

    def _hold(self, label: str) -> int:
        self._label = label
        return self._show.hold(label)

    def _rearm(self, label: str) -> None:
        if self._silence is not None:
            self._silence.cancel()
        later = asyncio.get_running_loop().call_later
        self._silence = None if label == STRAIGHT_ON else later(SILENCE, self._release)

    def _release(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if self._label != STRAIGHT_ON:
            self._hold(STRAIGHT_ON)

    def _applied(self, viewer: Viewer, receipt: Message) -> None:
        """The second phase: the first frame each waiting control conditioned; one that a newer one
        overtook within the same latent gets that one's frame."""
        self._last_receipt = receipt
        while self._unanswered and self._unanswered[0][1] <= receipt["cursor"]:
            seq, cursor = self._unanswered.popleft()
            overtaken = cursor < receipt["cursor"]
            fields = {name: receipt[name] for name in ("epoch", "frame", "latent")}
            viewer.tell("applied", seq=seq, cursor=cursor, overtaken=overtaken, **fields)

    # --- the state of things ---

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
            f"recordings/{name}" for name, path in self._show.recordings.items() if path.is_file()
        ]


def _check_link(viewer: Viewer) -> None:
    if not viewer.may_drive:
        raise UserError("this link is for watching; to drive, ask for the driver's link")


def fresh_seed() -> int:
    """A random seed short enough to be read out and typed."""
    return secrets.randbelow(1_000_000)


def void(_: object) -> None:
    """For handlers whose answer comes as an event."""

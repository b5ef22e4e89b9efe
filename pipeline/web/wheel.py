"""The wheel: who drives a world, and what their keys hold."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from configs.errors import UserError
from models.controls import STRAIGHT_ON
from pipeline.stage.show import Show
from pipeline.web.messages import Input
from pipeline.web.viewer import Viewer

SILENCE: Final = 1.0  # seconds without an input after which the held keys count as released
# controls that wait for their first frame; older ones are answered by a newer answer
UNANSWERED: Final = 64

Receipt = dict[str, Any]  # data of a ``receipt`` event


class Wheel:
    """One driver at a time. A seat that falls empty waits for its owner's page to come back, or
    for the first who steers. Who came by a watcher's link never drives."""

    def __init__(self, show: Show, passed: Callable[[], None]) -> None:
        """passed: called when somebody takes it."""
        self.driver: Viewer | None = None
        self._show = show
        self._passed = passed
        self._owner = ""  # name of the page that drove last
        self._label = STRAIGHT_ON
        self._unanswered: deque[tuple[int, int]] = deque(maxlen=UNANSWERED)  # seq, cursor
        self._last_receipt: Receipt | None = None
        self._silence: asyncio.TimerHandle | None = None

    def awaits(self, viewer: Viewer) -> bool:
        """Whether this is the page that drove last, and nobody else does."""
        mine = bool(viewer.name) and viewer.name == self._owner
        return mine and (self.driver is None or self.driver.name == viewer.name)

    def take(self, viewer: Viewer) -> None:
        """From now on this one drives. Raises UserError."""
        _check_link(viewer)
        if viewer is not self.driver:
            self.seat(viewer)

    def check(self, viewer: Viewer) -> None:
        """Let the driver do something, or whoever is first at an empty seat. Raises UserError."""
        _check_link(viewer)
        if self.driver is None:
            self.seat(viewer)
        if viewer is not self.driver:
            raise UserError("you are watching; take control first")

    def seat(self, viewer: Viewer) -> None:
        """From now on this one drives, who may."""
        if self.driver is not None:
            self.release()
        self.driver, self._owner = viewer, viewer.name
        self._unanswered.clear()
        self._passed()

    def leave(self) -> None:
        """The driver goes; the keys are released at once."""
        self.release()
        self.driver = None

    def steer(self, viewer: Viewer, given: Input) -> None:
        """Hold what the driver's keys say; a first answer comes at once."""
        cursor = self._hold(given.label)
        viewer.tell("received", seq=given.seq, cursor=cursor, label=given.label)
        self._unanswered.append((given.seq, cursor))
        if self._last_receipt is not None and self._last_receipt["cursor"] == cursor:
            self.answer(self._last_receipt)  # the label was in force already
        self._rearm(given.label)

    def answer(self, receipt: Receipt) -> None:
        """The second answer: the first frame each waiting control conditioned; one that a newer one
        overtook within the same latent gets that one's frame."""
        if self.driver is None:
            return
        self._last_receipt = receipt
        while self._unanswered and self._unanswered[0][1] <= receipt["cursor"]:
            seq, cursor = self._unanswered.popleft()
            overtaken = cursor < receipt["cursor"]
            fields = {name: receipt[name] for name in ("epoch", "frame", "latent")}
            self.driver.tell("applied", seq=seq, cursor=cursor, overtaken=overtaken, **fields)

    def release(self) -> None:
        """Let go of the keys."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if self._label != STRAIGHT_ON:
            self._hold(STRAIGHT_ON)

    def _hold(self, label: str) -> int:
        self._label = label
        return self._show.hold(label)

    def _rearm(self, label: str) -> None:
        if self._silence is not None:
            self._silence.cancel()
        later = asyncio.get_running_loop().call_later
        self._silence = None if label == STRAIGHT_ON else later(SILENCE, self.release)


def _check_link(viewer: Viewer) -> None:
    if not viewer.may_drive:
        raise UserError("this link is for watching; to drive, ask for the driver's link")

"""The held label, and which frame is the first to show it."""

import time
from collections import deque
from dataclasses import replace
from typing import Final

from actors.source import ChunkSource
from models.controls import STRAIGHT_ON, label_id
from pipeline.stage.audience import Audience, ShownFrame

# controls that wait for their first frame; older ones are superseded anyway
PENDING_CONTROLS: Final = 256


class Controls:
    """Every new label gets a cursor (a running number) and, with the first frame that it
    conditioned, a ``receipt`` event."""

    def __init__(self, source: ChunkSource, audience: Audience) -> None:
        self._source = source
        self._audience = audience
        self.held, self._cursor = STRAIGHT_ON, 0
        self._pending: deque[tuple[int, str, float]] = deque(maxlen=PENDING_CONTROLS)
        self._label = STRAIGHT_ON  # conditioned into the newest frame

    def hold(self, label: str) -> int:
        """Hold ``label`` from now on and return its cursor. Raises UserError for an unknown
        label."""
        label_id(label)
        if label != self.held or not self._cursor:
            self.held = label
            self._cursor += 1
            self._pending.append((self._cursor, label, time.monotonic()))
            self._source.hold(label, self._cursor)
        return self._cursor

    def came_through(self, frame: ShownFrame, scripted: bool) -> ShownFrame:
        """The first frame of a latent is shown: answer the controls it is the first to show, and
        return it with the stamp "received" if it shows a new one.

        scripted: a take is in charge; its key presses are never early or late.
        """
        received = self._receipt(frame)
        if received is None and scripted and frame.label != self._label:
            received = frame.stamps.get("sampled")
        self._label = frame.label
        if received is None:
            return frame
        return replace(frame, stamps={"received": received, **frame.stamps})

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

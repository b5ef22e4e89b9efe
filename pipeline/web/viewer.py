"""One connected page or program: what it still has to hear, and the one task that writes to it."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline.stage.audience import ShownFrame, Subscription
from pipeline.web.messages import FrameHeader
from pipeline.web.quality import Ladder, Pictures

FRAMES_IN_FLIGHT = 2
PATIENT_BACKLOG = 8  # messages waiting beyond which only the newest of a kind is kept
FULL_BACKLOG = 512  # a viewer this far behind is gone
_CUMULATIVE = frozenset({"received", "applied", "pong", "stats", "role", "error", "status"})


class Viewer:
    """A client's outgoing side. ``tell`` and ``acked`` never wait; ``run`` is the only writer to
    the socket."""

    def __init__(self, name: str, subscription: Subscription, pictures: Pictures) -> None:
        self.name = name  # chosen by the client, the same after a reconnect; "" for a stranger
        self.ladder = Ladder()
        self.dropped = 0
        self.sent_bytes = 0
        self._subscription = subscription
        self._pictures = pictures
        self._messages: deque[dict[str, Any]] = deque()
        self._frame: ShownFrame | None = None
        self._counted = (0, 0)
        self._in_flight: deque[tuple[int, int, float, int]] = (
            deque()
        )  # epoch, frame index, sent at, bytes
        self._wake = asyncio.Event()

    def tell(self, kind: str, **fields: Any) -> None:
        """Queue a message. Far behind, a newer one of the same kind takes the place of an older
        one."""
        message = {"type": kind, **fields}
        if len(self._messages) >= PATIENT_BACKLOG and kind in _CUMULATIVE:
            kept = (waiting for waiting in self._messages if waiting["type"] != kind)
            self._messages = deque(kept)
        self._messages.append(message)
        if len(self._messages) > FULL_BACKLOG:
            self.close()
        self._wake.set()

    def acked(self, epoch: int, frame: int) -> None:
        """The client painted a frame: it and all sent before it are no longer in flight."""
        now = time.monotonic()
        while self._in_flight and self._in_flight[0][:2] <= (epoch, frame):
            _, _, sent, size = self._in_flight.popleft()
            self.ladder.acked(now - sent, size, now)
        self._wake.set()

    def uncounted(self) -> tuple[int, int]:
        """Bytes sent and frames dropped since the last call."""
        now, before = (self.sent_bytes, self.dropped), self._counted
        self._counted = now
        return now[0] - before[0], now[1] - before[1]

    def close(self) -> None:
        """End ``run``. Idempotent."""
        self._subscription.close()
        self._wake.set()

    async def run(
        self,
        hear: Callable[[Any], None],
        send_text: Callable[[str], Awaitable[None]],
        send_bytes: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Write until the subscription ends: messages first, then the newest frame if fewer than
        two are in flight.

        ``hear`` gets every event of the show and turns it into messages.
        """
        listener = asyncio.create_task(self._listen(hear))
        try:
            while not (listener.done() and not self._messages):
                await self._wake.wait()
                self._wake.clear()
                while self._messages:
                    await send_text(json.dumps(self._messages.popleft()))
                if self._frame is not None and len(self._in_flight) < FRAMES_IN_FLIGHT:
                    frame, self._frame = self._frame, None
                    await send_bytes(self._packed(frame))
        finally:
            listener.cancel()

    async def _listen(self, hear: Callable[[Any], None]) -> None:
        """Take what the show offers at once, whatever the socket does, so that nothing piles up
        there."""
        try:
            while await self._subscription.wait():
                for event in self._subscription.events():
                    hear(event)
                frame = self._subscription.frame()
                if frame is not None:
                    self.dropped += self._frame is not None
                    self._frame = frame
                    self._wake.set()
        finally:
            self._wake.set()

    def _packed(self, frame: ShownFrame) -> bytes:
        quality = self.ladder.quality
        height, width, _ = frame.image.shape
        now = time.monotonic()
        header = FrameHeader(
            frame.label,
            quality,
            width,
            height,
            frame.epoch,
            frame.index,
            frame.cursor,
            frame.prompt_version,
            now,
        )
        message = header.pack() + self._pictures.of(frame, quality)
        self._in_flight.append((frame.epoch, frame.index, now, len(message)))
        self.sent_bytes += len(message)
        return message

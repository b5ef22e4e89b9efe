"""One connected page or program: what it still has to hear, and the one task that writes to it."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from configs.geometry import FPS
from pipeline.stage.audience import ShownFrame, Subscription
from pipeline.web.film import fits_video
from pipeline.web.messages import CODEC_H264, CODEC_JPEG, FrameHeader
from pipeline.web.quality import SMALL, Ladder, Pictures

FRAMES_IN_FLIGHT = 2
VIDEO_BACKLOG = 2  # video frames that wait for their turn: every one of them is needed for the next
MOST_ON_THE_WAY = 8  # video frames: half a second, a link around the world
SMALL_VIDEO = 1500  # bytes, one packet: a video frame that fits any link
PATIENT_BACKLOG = 8  # messages waiting beyond which only the newest of a kind is kept
FULL_BACKLOG = 512  # a viewer this far behind is gone
_CUMULATIVE = frozenset(
    {"received", "applied", "pong", "stats", "role", "error", "status", "motion"}
)


class Viewer:
    """A client's outgoing side. ``tell`` and ``acked`` never wait; ``run`` is the only writer to
    the socket."""

    def __init__(
        self, name: str, subscription: Subscription, pictures: Pictures, *, video: bool = False
    ) -> None:
        self.name = name  # chosen by the client, the same after a reconnect; "" for a stranger
        self.may_drive = True  # False: it came by a watcher's link
        self.video = video  # it can decode H.264, and gets it where frames are large
        self.ladder = Ladder(small=SMALL_VIDEO if video else SMALL)
        self.dropped = 0
        self.sent_bytes = 0
        self._subscription = subscription
        self._pictures = pictures
        self._messages: deque[dict[str, Any]] = deque()
        self._waiting: deque[ShownFrame] = deque()
        self._counted = (0, 0)
        # epoch, frame index, sent at, bytes
        self._in_flight: deque[tuple[int, int, float, int]] = deque()
        self._decoded: tuple[int, int] | None = None  # quality and serial of the last video frame
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

    def lost(self, epoch: int, frame: int) -> None:
        """A frame, and all sent before it, will hardly be acknowledged any more: what still is in
        flight of them counts as late, and no video goes on from it."""
        if self._in_flight and self._in_flight[0][:2] <= (epoch, frame):
            self._decoded = None
            self.acked(epoch, frame)

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
                if self._waiting and len(self._in_flight) < self._window:
                    await self._send(self._waiting.popleft(), send_bytes)
        finally:
            listener.cancel()

    async def _send(
        self, frame: ShownFrame, send_bytes: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Send a frame; one that cannot be decoded at the far side waits until the link is free
        for it as a JPEG, unless a newer one is there."""
        message = await self._packed(frame)
        if message is None and not self._waiting:
            self._waiting.append(frame)
            return
        if message is None:
            self.dropped += 1
        else:
            await send_bytes(message)
            if frame.motion is not None:
                self.tell("motion", epoch=frame.epoch, frame=frame.index, **asdict(frame.motion))
        self._wake.set()  # messages first again, then what waits

    async def _listen(self, hear: Callable[[Any], None]) -> None:
        """Take what the show offers at once, whatever the socket does, so that nothing piles up
        there."""
        try:
            while await self._subscription.wait():
                for event in self._subscription.events():
                    hear(event)
                frame = self._subscription.frame()
                if frame is not None:
                    self._queue(frame)
        finally:
            self._wake.set()

    def _queue(self, frame: ShownFrame) -> None:
        """The newest wins; video keeps a few, because each is needed for the next."""
        self._waiting.append(frame)
        while len(self._waiting) > (VIDEO_BACKLOG if self.video else 1):
            self._waiting.popleft()
            self.dropped += 1
        self._wake.set()

    @property
    def _window(self) -> int:
        """Frames that may be in flight: video fills a long link, but does not queue in it."""
        if not self.video:
            return FRAMES_IN_FLIGHT
        return FRAMES_IN_FLIGHT + min(int(self.ladder.round_trip * FPS), MOST_ON_THE_WAY)

    async def _packed(self, frame: ShownFrame) -> bytes | None:
        """A frame as it is sent; None when it cannot be decoded at the far side."""
        quality = self.ladder.quality
        codec, key, data = CODEC_JPEG, False, b""
        if self.video and fits_video(frame):
            last = self._decoded
            after = last[1] if last is not None and last[0] == quality else None
            piece = await self._pictures.film(quality).piece(frame, after)
            if piece is not None:
                self._decoded = quality, piece.serial
                codec, key, data = CODEC_H264, piece.key, piece.data
            elif self._in_flight:  # a key frame follows; nothing else would come through sooner
                return None
        data = data or self._pictures.of(frame, quality)
        height, width, _ = frame.image.shape
        now = time.monotonic()
        header = FrameHeader(
            label=frame.label,
            quality=quality,
            width=width,
            height=height,
            epoch=frame.epoch,
            frame=frame.index,
            cursor=frame.cursor,
            prompt_version=frame.prompt_version,
            clock=now,
            codec=codec,
            key=key,
        )
        message = header.pack() + data
        self._in_flight.append((frame.epoch, frame.index, now, len(message)))
        self.sent_bytes += len(message)
        return message

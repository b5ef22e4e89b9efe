"""The shown frames as H.264 at one quality, encoded once however many viewers take them."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf

from configs.geometry import FPS
from pipeline.stage.audience import ShownFrame
from pipeline.video import FrameEncoder

NARROWEST = 320  # pixels: smaller pictures are enlarged, and JPEG keeps all of their colours
KEPT = 16  # pieces for viewers that are a little behind
KEY_SECONDS = 0.5  # between key frames that were asked for: whoever lost one waits so long at most


@dataclass(frozen=True)
class Piece:
    """One encoded frame. It can be decoded after piece ``serial - 1``, or by itself if ``key``."""

    serial: int
    key: bool
    data: bytes


def fits_video(frame: ShownFrame) -> bool:
    """Whether a frame is worth it (large) and can be (even sizes)."""
    height, width, _ = frame.image.shape
    return width >= NARROWEST and width % 2 == 0 and height % 2 == 0


class Film:
    """The pieces of one quality, in the order of the frames. ``crf`` is the encoder's constant
    quality; ``worker`` has one thread."""

    def __init__(self, crf: int, worker: ThreadPoolExecutor) -> None:
        self._crf = crf
        self._worker = worker
        self._encoder: FrameEncoder | None = None
        self._pieces: dict[tuple[int, int], asyncio.Future[Piece]] = {}  # by epoch, frame index
        self._serial = 0
        self._key_wanted = True
        self._keyed = -inf

    async def piece(self, frame: ShownFrame, after: int | None) -> Piece | None:
        """The piece of ``frame`` for a viewer that has decoded up to serial ``after``; None if it
        could not decode it: then a key frame follows within KEY_SECONDS."""
        place = frame.epoch, frame.index
        if place not in self._pieces:
            if self._pieces and place < next(reversed(self._pieces)):
                return None  # the film has gone on without it
            self._pieces[place] = asyncio.ensure_future(self._encode(frame))
            if len(self._pieces) > KEPT:
                del self._pieces[next(iter(self._pieces))]
        piece = await asyncio.shield(self._pieces[place])
        if piece.key or piece.serial - 1 == after:
            return piece
        self._key_wanted = True
        return None

    async def _encode(self, frame: ShownFrame) -> Piece:
        now = time.monotonic()
        key = self._serial == 0 or (self._key_wanted and now - self._keyed >= KEY_SECONDS)
        if key:
            self._key_wanted, self._keyed = False, now
        self._serial += 1
        serial = self._serial
        loop = asyncio.get_running_loop()
        return Piece(serial, key, await loop.run_in_executor(self._worker, self._made, frame, key))

    def _made(self, frame: ShownFrame, key: bool) -> bytes:
        if self._encoder is None:
            height, width, _ = frame.image.shape
            # its clock only: a constant quality spends no bits by it
            self._encoder = FrameEncoder(width, height, FPS, self._crf)
        return self._encoder.encode(frame.image, key)

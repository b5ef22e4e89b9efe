"""Exact frames as mp4, in a thread of its own."""

import queue
import threading
from pathlib import Path
from typing import Any, Final

import numpy as np

from actors.source import WorldInfo
from pipeline.video import VideoWriter

# ten seconds: an encoder that falls further behind ends the recording, not the stream
WAITING_FRAMES: Final = 160


class Recorder:
    """Writes frames to a fragmented mp4 in a thread of its own, so that a slow disk never delays
    the show."""

    def __init__(self, path: Path, info: WorldInfo) -> None:
        """Raises UserError if the file exists or its folder does not."""
        self.path = path
        self.frames = 0
        self.error = ""  # one line once writing has failed
        self._writer = VideoWriter(path, info.width, info.height, info.fps, fragmented=True)
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(WAITING_FRAMES)
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def add(self, image: np.ndarray) -> bool:
        """Queue one frame [H, W, 3]; False once the recording has failed (see ``error``)."""
        if self.error:
            return False
        try:
            self._queue.put_nowait(image)
        except queue.Full:
            self.error = f"the encoder of {self.path} fell {WAITING_FRAMES} frames behind"
            return False
        self.frames += 1
        return True

    def close(self) -> None:
        """Write what waits and finish the file (blocks; call it in a thread). Idempotent."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _write(self) -> None:
        while (image := self._queue.get()) is not None:
            if not self.error:
                self._attempt(self._writer.write, image[None])
        self._attempt(self._writer.close)

    def _attempt(self, action: Any, *arguments: Any) -> None:
        try:
            action(*arguments)
        except OSError as error:
            self.error = self.error or str(error)

"""Any program as a source of chunks: it reads label lines on stdin and writes raw frames on stdout.

The protocol (docs/protocol.md): the child writes one JSON header line; every label line is answered
with the four RGB frames of one latent, and with what the world knows of its car in them where the
header says ``motion``; ``reset SEED`` and ``prompt TEXT`` lines are not answered; at the end of
file it leaves."""

import asyncio
import contextlib
import json
import time
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from actors.source import FrameChunk, Moment, Motion, Pace, StageReport, Take, WorldInfo
from configs.errors import UserError
from configs.geometry import FRAMES_PER_LATENT
from models.controls import LABELS, STRAIGHT_ON

PROTOCOL: Final = 1
HEADER_SECONDS: Final = 60.0
BUFFER: Final = 4 * 2**20  # bytes; a latent of 480x720 frames
MOTION: Final = np.dtype(
    [("speed", "<f4"), ("heading", "<f4")]
)  # of each frame, behind all of them


class Program:
    """A ChunkSource (actors/source.py) over a child process. ``launch`` starts one."""

    def __init__(self, child: Process, info: WorldInfo) -> None:
        self.info = info
        self._child = child
        self._lines: list[str] = []  # to be written before the next label
        self._epoch = 0
        self._index = 0
        self._held, self._cursor = STRAIGHT_ON, 0
        self._conditioned = 0  # the newest cursor that steered; labels of a take have none
        # label and prompt of latents still to be followed
        self._take: deque[tuple[str, str]] = deque()
        self._first = 0  # latents before it are made and not handed on
        self._prompt, self._prompt_version = "", 0
        self._pace = Pace.at_once()
        self._paced = asyncio.Event()

    @classmethod
    async def launch(cls, command: Sequence[str]) -> "Program":
        """Start ``command`` and read its header. Raises UserError when it cannot run or speaks
        something else."""
        try:
            child = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, limit=BUFFER
            )
        except OSError as error:
            raise UserError(
                f"program {command[0]!r}: cannot be started ({error.strerror})"
            ) from None
        assert child.stdout is not None
        try:
            line = await asyncio.wait_for(_header(child.stdout), HEADER_SECONDS)
            return cls(child, _info(Path(command[0]).name, line))
        except TimeoutError:
            await _end(child)
            raise UserError(
                f"program {command[0]!r}: expected a header line within {HEADER_SECONDS:.0f} s"
            ) from None
        except BaseException:
            await _end(child)
            raise

    async def start(
        self,
        seed: int,
        prompt: str,
        report: Callable[[StageReport], None],
        moment: Moment | None = None,
    ) -> None:
        """The child is up already; its first world begins."""
        if moment is not None:
            raise self._keeps_nothing()
        self._say_prompt(prompt)
        self._lines.append(f"reset {seed}")
        report(StageReport("ready", 100.0, f"{self.info.name} is running", 0.0))

    def kept(self) -> Sequence[int]:
        """Nothing: the child alone knows where it is."""
        return ()

    def moment(self, latent: int) -> Moment:
        """Raises UserError."""
        raise self._keeps_nothing()

    def open(self, moment: Moment) -> int:
        """Raises UserError."""
        raise self._keeps_nothing()

    async def save(self, moment: Moment, take: Take, path: Path) -> None:
        """Raises UserError."""
        raise self._keeps_nothing()

    async def load(self, path: Path) -> tuple[Moment, Take]:
        """Raises UserError."""
        raise self._keeps_nothing()

    def _keeps_nothing(self) -> UserError:
        return UserError(
            f"{self.info.name} is a program of its own: its worlds cannot be kept, rewound or opened"
        )

    async def next(self) -> FrameChunk:
        """Ask for the next latent when the pace allows it and return its frames."""
        while True:
            chunk = await self._next()
            if chunk.index >= self._first:
                return chunk

    async def _next(self) -> FrameChunk:
        await self._turn()
        epoch, index = self._epoch, self._index
        self._index += 1
        if self._take:
            label, prompt = self._take.popleft()
            if prompt != self._prompt:
                self._say_prompt(prompt)
        else:
            label, self._conditioned = self._held, self._cursor
        prompt, cursor, version = self._prompt, self._conditioned, self._prompt_version
        lines, self._lines = [*self._lines, label], []
        began = time.monotonic()
        frames, motion = await self._ask(lines)
        done = time.monotonic()
        stamps = {
            "sampled": began,
            "step_start": began,
            "step_end": done,
            "decode_start": done,
            "decode_end": done,
        }
        return FrameChunk(
            epoch=epoch,
            index=index,
            first_frame=index * FRAMES_PER_LATENT,
            frames=frames,
            labels=(label,),
            cursor=cursor,
            prompt_version=version,
            prompt=prompt,
            steered=(label,),
            stamps={**stamps, "arrived": done},
            motion=motion,
        )

    def hold(self, label: str, cursor: int) -> None:
        """The label of the next latents."""
        self._held, self._cursor = label, cursor

    async def set_prompt(self, text: str, version: int) -> None:
        """Handed to the child before its next latent."""
        self._say_prompt(text)
        self._prompt_version = version

    def reset(self, seed: int, take: Take | None = None) -> int:
        """Begin again at latent 0, following ``take`` if there is one; returns the new epoch."""
        self._epoch += 1
        self._index = 0
        self._take = deque(zip(take.labels, take.prompts)) if take else deque()
        self._first = take.first if take else 0
        if take and take.prompts:
            self._say_prompt(take.prompts[0])
        self._lines.append(f"reset {take.seed if take else seed}")
        self.pace(Pace.at_once())
        return self._epoch

    def pace(self, pace: Pace) -> None:
        """When the next latents may be asked for."""
        self._pace = pace
        self._paced.set()

    async def close(self) -> None:
        """End of file for the child; a signal if it does not leave by itself."""
        await _end(self._child)

    async def _turn(self) -> None:
        """Wait until the next latent may start: near enough to what is shown, and late enough."""
        while True:
            self._paced.clear()
            delay = self._pace.wait(self._index, self.info, time.monotonic())
            if delay is not None and delay <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._paced.wait(), delay)

    async def _ask(self, lines: Sequence[str]) -> tuple[np.ndarray, tuple[Motion, ...]]:
        """Write the lines; the last one is a label, whose frames uint8 [4, H, W, 3] come back."""
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None and stdout is not None
        shape = (FRAMES_PER_LATENT, self.info.height, self.info.width, 3)
        try:
            stdin.write("".join(f"{line}\n" for line in lines).encode())
            await stdin.drain()
            data = await stdout.readexactly(int(np.prod(shape)))
            told = await stdout.readexactly(MOTION.itemsize * self.info.motion * FRAMES_PER_LATENT)
        except (OSError, asyncio.IncompleteReadError):
            code = await self._child.wait()
            raise RuntimeError(
                f"program {self.info.name} ended in the middle of a drive, exit code {code}"
            ) from None
        motion = tuple(Motion(*map(float, each)) for each in np.frombuffer(told, MOTION))
        return np.frombuffer(data, np.uint8).reshape(shape), motion

    def _say_prompt(self, text: str) -> None:
        self._prompt = text
        self._lines.append(f"prompt {' '.join(text.split())}")


async def _header(stdout: asyncio.StreamReader) -> bytes:
    """The first line, or what came in its place."""
    try:
        return await stdout.readline()
    except ValueError:  # no end of line within BUFFER
        return b""


def _info(command: str, line: bytes) -> WorldInfo:
    """The header line as facts about the world. Raises UserError."""
    try:
        header: Any = json.loads(line)
        name, labels, presets = (
            str(header["name"]),
            tuple(header["labels"]),
            tuple(map(str, header["presets"])),
        )
        width, height, fps = (int(header[key]) for key in ("width", "height", "fps"))
        protocol = header["protocol"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        got = ascii(line[:80].decode("utf-8", "replace"))
        raise UserError(
            f"program {command}: expected a JSON header line (docs/protocol.md), got {got}"
        ) from None
    if protocol != PROTOCOL or labels != LABELS:
        raise UserError(
            f"program {command}: expected protocol {PROTOCOL} with labels {', '.join(LABELS)}, got others"
        )
    if (
        width % 2
        or height % 2
        or not (2 <= width <= 4096 and 2 <= height <= 4096 and 1 <= fps <= 60)
    ):
        raise UserError(
            f"program {command}: expected even sizes to 4096 and 1 to 60 FPS, got {width}x{height}, {fps}"
        )
    return WorldInfo(
        name=name,
        model_hash=f"program-{command}",
        height=height,
        width=width,
        presets=presets,
        fps=fps,
        motion=header.get("motion") is True,
    )


async def _end(child: Process) -> None:
    """Close its input, wait, then insist."""
    assert child.stdin is not None
    child.stdin.close()
    for insist in (child.terminate, child.kill):
        with contextlib.suppress(TimeoutError, ProcessLookupError):
            await asyncio.wait_for(child.wait(), 2.0)
            return
        with contextlib.suppress(ProcessLookupError):
            insist()
    await child.wait()

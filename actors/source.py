"""Where frames come from: the contract between a show and what makes its frames, and its records."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from configs.geometry import FPS, FRAMES_PER_LATENT

STEPS_AHEAD: Final = 2  # of the latent on the screen


@dataclass(frozen=True)
class Motion:
    """What a world knows of its car in one frame: speed in metres a second (below 0 in reverse),
    heading in degrees clockwise from north. Never guessed from labels."""

    speed: float
    heading: float


@dataclass(frozen=True)
class FrameChunk:
    """Frames uint8 [n, H, W, 3] of latents index .. index + len(labels) - 1.

    ``first_frame`` is the index of frames[0] since the reset; ``cursor`` the newest control
    conditioned into them. ``labels`` condition these latents; ``steered`` are the labels that their
    steps were given, which reproduce the drive: they differ when a label takes several steps to
    reach the latent that leaves the window (late_labels < noise_groups). Times in ``stamps``: asked
    (the step could have started), sampled, step_start, step_end, decode_start, decode_end, arrived.
    ``motion`` has one record for each frame, or none: few worlds know.
    """

    epoch: int
    index: int
    first_frame: int
    frames: np.ndarray
    labels: tuple[str, ...]
    cursor: int
    prompt_version: int
    prompt: str = ""
    steered: tuple[str, ...] = ()
    stamps: Mapping[str, float] = field(default_factory=dict)
    motion: tuple[Motion, ...] = ()


@dataclass(frozen=True)
class StageReport:
    """Progress of starting up or of a rebuild: stage name, percent (None = unknown), one line,
    seconds since start."""

    stage: str
    percent: float | None
    message: str
    seconds: float


@dataclass(frozen=True)
class Notice:
    """A line that is told once and is no stage of anything. ``about``: "prompt" (what is not
    followed of one), "drive" (the same, of a drive), "worker" (one is replaced), "journal"
    (whether the drive is kept)."""

    about: str
    message: str


Say = Callable[[str, float | None, str], None]  # stage, percent (None = unknown), one line
Tell = Callable[[str, str], None]  # of a notice: what it is about, one line
Report = Callable[[StageReport | Notice], None]


class Reporter:
    """Says stages, with the seconds since it was told to whom, and notices to whoever listens."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._report: Report = lambda report: None

    def to(self, report: Report) -> None:
        """Report there from now on; the seconds count from here."""
        self._begun, self._report = time.monotonic(), report

    def __call__(self, stage: str, percent: float | None, message: str) -> None:
        seconds = round(time.monotonic() - self._begun, 2)
        self._report(StageReport(stage, percent, message, seconds))

    def tell(self, about: str, message: str) -> None:
        """Tell a notice."""
        self._report(Notice(about, message))


@dataclass(frozen=True)
class WorldInfo:
    """What a source of chunks shows, known before it starts. Sizes in pixels; ``presets`` are
    prompts it knows, ``pictures`` a JPEG of each, or nothing; ``motion``: its chunks tell theirs;
    ``moments``: it keeps some to go back to; ``own_start``: it begins at a picture of a person's
    own."""

    name: str
    model_hash: str
    height: int
    width: int
    presets: tuple[str, ...] = ()
    pictures: tuple[bytes, ...] = field(default=(), repr=False)
    fps: int = FPS
    frames_per_latent: int = FRAMES_PER_LATENT
    latents_per_step: int = 1
    devices: str = ""
    motion: bool = False
    moments: bool = False
    own_start: bool = False
    engine: str = ""  # what computes it (configs/choice.py); "" where that is not ours to say

    @property
    def latent_seconds(self) -> float:
        """Shown seconds of one latent (0.25 at 16 FPS)."""
        return self.frames_per_latent / self.fps


@dataclass(frozen=True)
class Pace:
    """When steps may start: latent ``index`` at ``start``, each later one ``latent_seconds`` after
    the one before.

    ``start`` is on the monotonic clock (0 = at once, infinity = paused). ``shown`` is the newest
    latent of this epoch that reached the screen (-1 = none): a source never runs more than two
    steps ahead of it.
    """

    index: int
    start: float
    shown: int

    @staticmethod
    def standing() -> "Pace":
        """No step may start."""
        return Pace(0, math.inf, -1)

    @staticmethod
    def at_once() -> "Pace":
        """A stream begins: its first steps may start."""
        return Pace(0, 0.0, -1)

    @property
    def paused(self) -> bool:
        return math.isinf(self.start)

    def wait(self, index: int, info: WorldInfo, now: float) -> float | None:
        """Seconds from ``now`` until the step of latents ``index`` .. may start; None = not before
        another pace comes."""
        if self.paused or index > self.shown + STEPS_AHEAD * info.latents_per_step:
            return None
        return self.start + (index - self.index) * info.latent_seconds - now


@dataclass(frozen=True)
class Take:
    """A drive to reproduce: one seed, and for every latent its label and the prompt in force.
    ``engine`` made it first; "" = unknown. Latents before ``first`` were not shown: the drive began
    where another had been."""

    seed: int
    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    engine: str = ""
    first: int = 0

    def __post_init__(self) -> None:
        assert len(self.labels) == len(self.prompts), "one prompt per label"


@dataclass(frozen=True)
class Moment:
    """A stream before latent ``latent``: what a source can go on from, the one that made it or
    another with the same weights. ``prompt`` is in force there; ``state`` is the source's own."""

    latent: int
    seed: int
    prompt: str
    state: object = field(repr=False)


class ChunkSource(Protocol):
    """Where frames come from. All methods are called on one event loop; only the ``async`` ones
    take time.

    Chunks come in order: within an epoch ``index`` and ``first_frame`` follow on without gap or
    repeat. ``epoch`` rises at ``reset`` (index starts again at 0), at ``open`` (index goes on from
    the moment's latent) and at a rebuild after a fault (index goes on).
    """

    info: WorldInfo

    async def start(
        self,
        seed: int,
        prompt: str,
        report: Report,
        moment: Moment | None = None,
    ) -> None:
        """Load everything and begin with ``seed`` and ``prompt``, or go on from ``moment``. Reports
        stages from the first moment on, a rebuild after a fault too, and notices. Raises
        UserError when it cannot."""
        ...

    async def next(self) -> FrameChunk:
        """The next chunk, full width, at least one frame. ``stamps`` as ShownFrame lists them.
        Raises RuntimeError with one line when the source is beyond repair."""
        ...

    def hold(self, label: str, cursor: int) -> None:
        """The label held from now on; read when the next step starts, the latest wins."""
        ...

    async def set_prompt(self, text: str, version: int) -> None:
        """Encode off the hot path; returns once the prompt waits for the next step. Raises
        UserError."""
        ...

    def reset(self, seed: int, take: Take | None = None) -> int:
        """Begin again at latent 0; return the new epoch at once, its chunks follow. With ``take``
        its labels and prompts are followed for as many latents as it has (and ``seed`` is the
        take's), then the held label counts; latents before ``take.first`` are not handed on."""
        ...

    def kept(self) -> Sequence[int]:
        """Latents of this stream that it stood before and that are kept, the oldest first; a minute
        of them. Empty: a source that keeps nothing."""
        ...

    def moment(self, latent: int) -> Moment:
        """Before any latent from the oldest kept one to the next. Raises UserError."""
        ...

    def open(self, moment: Moment) -> int:
        """Go on from there with what is held; return the new epoch at once, chunks from
        ``moment.latent`` on follow."""
        ...

    async def save(self, moment: Moment, take: Take, path: Path) -> None:
        """Write a moment as NAME.world; ``take`` are the labels and prompts that led there
        from latent 0. Raises UserError."""
        ...

    async def load(self, path: Path) -> tuple[Moment, Take]:
        """Read NAME.world: the moment, and what led there. Raises UserError."""
        ...

    def pace(self, pace: Pace) -> None:
        """When the next steps may start."""
        ...

    async def close(self) -> None:
        """End everything it started. Idempotent; also right in the middle of ``start``."""
        ...

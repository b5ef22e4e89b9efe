"""Where frames come from: the contract between a show and what makes its frames."""

from collections.abc import Callable
from typing import Protocol

from actors.records import FrameChunk, Pace, StageReport, Take, WorldInfo


class ChunkSource(Protocol):
    """Where frames come from. All methods are called on one event loop; only the ``async`` ones
    take time.

    Chunks come in order: within an epoch ``index`` and ``first_frame`` follow on without gap or
    repeat. ``epoch`` rises at ``reset`` (index starts again at 0) and at a rebuild after a fault
    (index goes on).
    """

    info: WorldInfo

    async def start(self, seed: int, prompt: str, report: Callable[[StageReport], None]) -> None:
        """Load everything and begin with ``seed`` and ``prompt``. Reports stages from the first
        moment on, and later notices (a rebuild after a fault). Raises UserError when it cannot."""
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
        take's), then the held label counts."""
        ...

    def pace(self, pace: Pace) -> None:
        """When the next steps may start."""
        ...

    async def close(self) -> None:
        """End everything it started. Idempotent; also right in the middle of ``start``."""
        ...

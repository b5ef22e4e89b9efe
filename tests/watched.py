"""A show that keeps every frame; a subscription keeps the newest only."""

from collections.abc import Callable
from typing import Any

from pipeline.stage.audience import ShownFrame
from pipeline.stage.show import Show
from tests.until import until


class WatchedShow(Show):
    """``seen`` are all frames that were shown, and those that a recording of it would have beside
    them: latents are whole. ``shown`` is called with each."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.seen: list[ShownFrame] = []
        self.shown: Callable[[ShownFrame], None] = lambda frame: None
        record = self.recordings.add

        def add(frame: ShownFrame) -> None:
            record(frame)
            self.seen.append(frame)
            self.shown(frame)

        self.recordings.add = add  # type: ignore[method-assign]

    async def until(self, latent: int) -> None:
        """Wait until a latent is on the screen."""
        await until(lambda: self.latent >= latent)

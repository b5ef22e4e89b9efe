"""The prompts of a show: each has a version and is pending, then shown or failed."""

import asyncio
from typing import Any, Final

from actors.source import ChunkSource
from configs.errors import UserError
from configs.limits import check_prompt
from pipeline.stage.audience import Audience, ShownFrame

NONE_SHOWN: Final = -1


class Prompts:
    """``text`` is in force: the frames on the screen follow it."""

    def __init__(self, text: str, source: ChunkSource, audience: Audience) -> None:
        """Raises UserError for a ``text`` that cannot be a prompt."""
        self.text = check_prompt(text)
        self._source = source
        self._audience = audience
        self._texts = {0: self.text}
        self._shown = NONE_SHOWN
        self._order = asyncio.Lock()

    def add(self, text: str) -> int:
        """A new prompt, pending; returns its version, which ``hand_over`` takes. Raises
        UserError."""
        version = len(self._texts)
        self._texts[version] = check_prompt(text)
        self._audience.tell("prompt", **self.newest())
        return version

    async def hand_over(self, version: int) -> None:
        """Give a prompt to the source unless a newer one overtook it."""
        async with self._order:
            if version != len(self._texts) - 1:
                return
            text = self._texts[version]
            try:
                await self._source.set_prompt(text, version)
            except (UserError, RuntimeError) as error:
                failure = {"text": text, "state": "failed", "message": str(error)}
                self._audience.tell("prompt", version=version, **failure)

    def came_through(self, frame: ShownFrame) -> None:
        """A frame is shown: tell everybody if it is the first of its prompt."""
        if frame.prompt_version > self._shown or frame.prompt != self.text:
            self._shown, self.text = frame.prompt_version, frame.prompt
            state = {"text": frame.prompt, "state": "shown", "message": ""}
            self._audience.tell("prompt", version=frame.prompt_version, **state)

    def newest(self) -> dict[str, Any]:
        """Data of a ``prompt`` event about the newest one."""
        version = len(self._texts) - 1
        state = "shown" if version <= self._shown else "pending"
        return {"version": version, "text": self._texts[version], "state": state, "message": ""}

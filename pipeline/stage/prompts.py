"""The prompts of a show: each has a version and is pending, then shown or failed."""

import asyncio
from typing import Any, Final

from actors.source import ChunkSource
from actors.tasks import Tasks
from configs.errors import UserError
from configs.limits import check_prompt
from pipeline.stage.audience import Audience, ShownFrame

NO_VERSION: Final = -1


class Prompts:
    """``text`` is in force: the frames on the screen follow it."""

    def __init__(self, text: str, source: ChunkSource, audience: Audience) -> None:
        """Raises UserError for a ``text`` that cannot be a prompt."""
        self.text = check_prompt(text)
        self._source = source
        self._audience = audience
        self._newest = (0, self.text)  # version and text that was asked for last
        self._shown = NO_VERSION
        self._awaited: int | None = 0  # the newest version, while it is pending
        self._handed = 0  # version that the source has
        self._order = asyncio.Lock()
        self._tasks = Tasks()

    def add(self, text: str) -> int:
        """A new prompt, pending, on its way to the source; returns its version. Raises
        UserError."""
        self._newest = (self._newest[0] + 1, check_prompt(text))
        self._awaited = version = self._newest[0]
        self._audience.tell("prompt", **self.newest())
        self._tasks.start(self._hand_over(version))
        return version

    async def close(self) -> None:
        """Those on their way do not arrive any more."""
        await self._tasks.cancel()

    async def _hand_over(self, version: int) -> None:
        """Give a prompt to the source unless a newer one overtook it."""
        async with self._order:
            newest, text = self._newest
            if version != newest:
                return
            try:
                await self._source.set_prompt(text, version)
                self._handed = version
            except (UserError, RuntimeError) as error:
                self._fail(version, text, str(error))

    def came_through(self, frame: ShownFrame) -> None:
        """A frame is shown: tell everybody if it is the first of its prompt."""
        if self._awaited is not None and frame.prompt_version >= self._awaited:
            self._awaited = None
        if (frame.prompt_version, frame.prompt) != (self._shown, self.text):
            self._shown, self.text = frame.prompt_version, frame.prompt
            state = {"text": frame.prompt, "state": "shown", "message": ""}
            self._audience.tell("prompt", version=frame.prompt_version, **state)

    def go_back(self, text: str) -> None:
        """The world stands where ``text`` is in force. What the source had been given and no frame
        has followed is void; what is still being read comes through later."""
        self.text = text
        if self._awaited is not None and 0 < self._awaited <= self._handed:
            why = "the world went back before this prompt came; ask for it again"
            self._fail(*self._newest, why)

    def newest(self) -> dict[str, Any]:
        """Data of a ``prompt`` event about the one that is pending, else the one in force."""
        if self._awaited is None:
            return {"version": self._shown, "text": self.text, "state": "shown", "message": ""}
        version, text = self._newest
        return {"version": version, "text": text, "state": "pending", "message": ""}

    def _fail(self, version: int, text: str, why: str) -> None:
        if self._awaited == version:
            self._awaited = None
        failure = {"text": text, "state": "failed", "message": why}
        self._audience.tell("prompt", version=version, **failure)

"""Prompts to embeddings, read beside the stream: no step waits for a text unless its drive says so.
A text worker that dies or hangs is replaced, also when nobody asks for anything."""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

import numpy as np

from actors.gang import Gang, gathered
from actors.groups import Groups
from actors.repair import ClusterLost, Fault, Faults, Patience, watched
from actors.source import Tell
from configs.errors import UserError

KEPT: Final = 64  # embeddings; the published ones take 4 MB each
LOOK_SECONDS: Final = 5.0  # between two looks at an idle text worker
ANSWER_SECONDS: Final = 10.0  # in which an idle one answers

Encoded = tuple[np.ndarray, str]  # what TextWorker.encode gives


class PromptReader:
    """Reads one prompt at a time and remembers the last ones."""

    def __init__(self, groups: Groups, tell: Tell) -> None:
        """tell: hears notices that concern all sessions."""
        self._groups = groups
        self._tell = tell
        self._turn = asyncio.Lock()
        self._patience = Patience()
        self._known: dict[str, np.ndarray] = {}

    async def read(self, text: str, tell: Tell) -> np.ndarray:
        """The embedding of a prompt; ``tell`` hears what had to be left out. Raises UserError, or
        RuntimeError when two workers failed."""
        async with self._turn:
            if text not in self._known:
                embedding, notice = await self._encode(text)
                if notice:
                    tell("prompt", notice)
                if len(self._known) >= KEPT:
                    self._known.pop(next(iter(self._known)))
                self._known[text] = embedding
            return self._known[text]

    async def read_all(self, texts: Iterable[str], tell: Tell) -> dict[str, np.ndarray]:
        """The embeddings of some prompts, by text."""
        return {text: await self.read(text, tell) for text in dict.fromkeys(texts)}

    async def keep(self) -> None:
        """Look after an idle text worker, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            async with self._turn:
                worker = await self._groups.text_worker()
                try:
                    answers = gathered(worker.ask("identity"))
                    await self._groups.unless_lost(watched(worker, answers, ANSWER_SECONDS))
                except Fault as fault:
                    await self._replace(worker, fault)

    async def _encode(self, text: str) -> tuple[np.ndarray, str]:
        failed = 0
        while True:
            worker = await self._groups.text_worker()
            asked = time.monotonic()
            answer: asyncio.Future[list[Encoded]] = gathered(worker.ask("encode", text))
            try:
                encoded = await self._groups.unless_lost(
                    watched(worker, answer, self._patience.limit)
                )
            except Fault as fault:
                if isinstance(fault.__cause__, UserError):
                    raise fault.__cause__ from None
                failed += not self._groups.lost
                if failed >= 2:
                    raise RuntimeError(f"the text worker failed twice, lastly: {fault}") from fault
                await self._replace(worker, fault)
                continue
            self._patience.took(time.monotonic() - asked)
            return encoded[0]

    async def _replace(self, worker: Gang, fault: Fault) -> None:
        if self._groups.lost:
            return  # with all others, by the fleet
        self._tell("worker", f"{fault}; replacing the text worker, the picture goes on")
        repair = Faults()
        while True:
            try:
                return await self._groups.replace_text(worker)
            except ClusterLost:
                return
            except Fault as another:
                try:
                    repair.again(another)  # it died while it loaded
                except RuntimeError as error:
                    raise RuntimeError(f"the text worker cannot be replaced: {error}") from another

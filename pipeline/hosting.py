"""The host of a live run: worlds on the workers of one fleet, kept if anything is."""

import asyncio
from collections.abc import Callable, Sequence

from actors.costs import Load
from actors.fleet import Fleet
from actors.session import Session
from configs.errors import UserError
from models.checkpoint import Checkpoint
from pipeline.beginning import Beginning
from pipeline.host import Host, PastDrive, Whose, WorldSource
from pipeline.keeping import Keeping
from pipeline.worlds import LOOK_SECONDS, Worlds


class Hosting(Host):
    """See Host."""

    def __init__(self, fleet: Fleet, keeping: Keeping, checkpoint: Checkpoint) -> None:
        """checkpoint: what the fleet serves."""
        self._fleet = fleet
        self._keeping = keeping
        self._checkpoint = checkpoint

    @property
    def room(self) -> float:
        """See Host."""
        return self._fleet.room

    @property
    def loads(self) -> Sequence[Load]:
        """See Host."""
        return self._fleet.loads

    async def source(self, whose: Whose, drive: str = "") -> WorldSource:
        """See Host."""
        session = Session(self._fleet)
        if not drive:
            return WorldSource(self._keeping.session(session, self._checkpoint, whose))
        held = await asyncio.to_thread(self._keeping.take_up, drive, self._checkpoint)
        source = self._keeping.session(session, self._checkpoint, whose, held)
        recording = held.recording()
        return WorldSource(source, held.drive.take, recording, held.summary(recording))

    async def drives(self) -> Sequence[PastDrive]:
        """See Host."""
        return await asyncio.to_thread(self._keeping.drives, self._checkpoint)


async def go_on_beside(
    worlds: Worlds, drives: Sequence[PastDrive], say: Callable[[str], None]
) -> None:
    """Let drives go on as there is room for them, in the queue like everybody; ``say`` hears of one
    that cannot."""
    while worlds.own.show.state == "starting":
        await asyncio.sleep(LOOK_SECONDS)

    async def one(drive: PastDrive) -> None:
        try:
            await worlds.in_turn(Beginning.again(drive))
        except UserError as error:
            say(f"{drive.journal} does not go on: {error}")

    await asyncio.gather(*map(one, drives))

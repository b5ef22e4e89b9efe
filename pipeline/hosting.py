"""The host of a live run: worlds on the workers of one fleet, kept if anything is."""

import asyncio
from collections.abc import Sequence

from actors.costs import Load
from actors.fleet import Fleet
from actors.session import Session
from models.checkpoint import Checkpoint
from pipeline.host import Host, PastDrive, Whose, WorldSource
from pipeline.keeping.keeping import Keeping


class Hosting(Host):
    """See Host."""

    def __init__(self, fleet: Fleet, keeping: Keeping, checkpoint: Checkpoint) -> None:
        """checkpoint: what the fleet serves."""
        self._fleet = fleet
        self._keeping = keeping
        self._checkpoint = checkpoint

    @property
    def capacity(self) -> float:
        """See Host."""
        return self._fleet.capacity

    @property
    def loads(self) -> Sequence[Load]:
        """See Host."""
        return self._fleet.loads

    async def source(self, whose: Whose, drive: str = "") -> WorldSource:
        """See Host."""
        session = Session(self._fleet)
        held = None
        if drive:
            held = await asyncio.to_thread(self._keeping.take_up, drive, self._checkpoint)
        # a place for a journal may cost older ones, or wait for another launcher's tidying up
        source = await asyncio.to_thread(
            self._keeping.session, session, self._checkpoint, whose, held
        )
        return WorldSource(source, held.continuation() if held else None)

    async def drives(self) -> Sequence[PastDrive]:
        """See Host."""
        return await asyncio.to_thread(self._keeping.drives)

"""What the worlds of a launcher run on: who makes their frames, for how many there is room, and the
drives of earlier launchers that can go on here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from actors.costs import Load
from actors.source import ChunkSource, Take

OWN: Final = "first"  # the id of the launcher's own world, the same after a restart


@dataclass(frozen=True)
class Whose:
    """Of which world: the id that is part of its address, and a name for people."""

    id: str
    name: str


@dataclass(frozen=True)
class PastDrive:
    """A drive that can go on. journal: its name in the state folder. whose: its world, as it was
    called there ("" = nobody knows); launcher: in whose care. seconds: how long it is; ended: told
    to end, else it was cut off; noted: when something was last noted, in seconds since 1970."""

    journal: str
    whose: Whose
    launcher: str
    prompt: str
    seed: int
    seconds: float
    ended: bool
    noted: float


@dataclass(frozen=True)
class Continuation:
    """How a kept drive goes on in a world. take: what its show follows first; recording: the file
    where one that was cut off goes on; told: what the summary of the run says of it."""

    take: Take
    recording: Path | None = None
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorldSource:
    """A source of frames, and the drive that goes on in it, if one does."""

    source: ChunkSource
    continuation: Continuation | None = None


class Host(Protocol):
    """All of it."""

    @property
    def capacity(self) -> float:
        """How many worlds keep their frame rate at once, as it was measured."""
        return math.inf

    @property
    def loads(self) -> Sequence[Load]:
        """What each replica carries."""
        return ()

    async def source(self, whose: Whose, drive: str = "") -> WorldSource:
        """The frames of another world; or of the drive in a journal, which is this world's from now
        on. Raises UserError."""
        ...

    async def drives(self) -> Sequence[PastDrive]:
        """Those that can go on with these weights, the newest first."""
        return ()

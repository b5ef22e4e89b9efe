"""What a prompt speaks of: a biome, a time of day, the colour of the car."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BIOMES = ("desert", "meadow", "snow", "city", "forest")
TIMES = ("day", "sunset", "night")
COLOURS = ("red", "blue", "white", "yellow")
SIZES = (len(BIOMES), len(TIMES), len(COLOURS))


@dataclass(frozen=True)
class Scene:
    """What a prompt speaks of; empty words where it says nothing."""

    biome: str
    time: str
    colour: str

    @staticmethod
    def random(rng: np.random.Generator) -> Scene:
        return Scene(str(rng.choice(BIOMES)), str(rng.choice(TIMES)), str(rng.choice(COLOURS)))

    @staticmethod
    def of_ids(ids: Sequence[int]) -> Scene:
        """From the places of its words in BIOMES, TIMES and COLOURS."""
        biome, time, colour = ids
        return Scene(BIOMES[biome], TIMES[time], COLOURS[colour])

    @property
    def ids(self) -> tuple[int, int, int]:
        """The places of its words in BIOMES, TIMES and COLOURS."""
        return BIOMES.index(self.biome), TIMES.index(self.time), COLOURS.index(self.colour)

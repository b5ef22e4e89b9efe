"""What a world that somebody asks for begins with."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.source import ChunkSource
from configs.errors import UserError
from configs.limits import check_prompt, check_seed
from pipeline.stage.past import Opening
from pipeline.stage.show import Show

NAME: Final = re.compile(r"[\w][\w .,()'’&+-]{0,59}")


@dataclass(frozen=True)
class Beginning:
    """A prompt and a seed, or a moment of another stream of the same weights to go on from. ``name``
    is for people; "" = one is made. Raises UserError for what no world can begin with."""

    prompt: str
    seed: int
    name: str = ""
    opening: Opening | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", check_prompt(self.prompt))
        check_seed(self.seed)
        if self.name and not NAME.fullmatch(self.name):
            raise UserError(
                "name: expected up to 60 letters, digits, spaces and - _ . , ( ) ' & +, "
                f"the first a letter or digit, got {self.name[:60]!a}"
            )

    def show(self, source: ChunkSource, recordings: Path) -> Show:
        """Its show, not yet run."""
        return Show(
            source,
            seed=self.seed,
            prompt=self.prompt,
            opening=self.opening,
            recordings=recordings,
        )

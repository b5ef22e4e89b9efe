"""What a world that somebody asks for begins with."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from configs.limits import check_prompt, check_seed, check_title
from pipeline.host import PastDrive, WorldSource
from pipeline.stage.past import Opening
from pipeline.stage.show import Show

LONGEST_NAME: Final = 60  # characters
IN_NAMES: Final = " -_.,()'’&+"


@dataclass(frozen=True)
class Beginning:
    """A prompt and a seed, a moment of another stream of the same weights to go on from, or the
    drive in a journal. ``name`` is for people, ``id`` what the world is called in addresses if
    nothing else is; "" = one is made. Raises UserError for what no world can begin with."""

    prompt: str
    seed: int
    name: str = ""
    opening: Opening | None = None
    drive: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", check_prompt(self.prompt))
        check_seed(self.seed)
        if self.name:
            object.__setattr__(self, "name", check_world_name(self.name))

    @staticmethod
    def again(drive: PastDrive) -> "Beginning":
        """What a drive of another launcher goes on with: under the same id, so that its links are
        good again where the launcher's token is the same."""
        whose = drive.whose
        return Beginning(drive.prompt, drive.seed, whose.name, drive=drive.journal, id=whose.id)

    def show(self, made: WorldSource, recordings: Path) -> Show:
        """Its show, not yet run."""
        take, seed, prompt = None, self.seed, self.prompt
        if made.continuation is not None:
            take = made.continuation.take
            seed, prompt = take.seed, take.prompts[take.first]
        return Show(
            made.source,
            seed=seed,
            prompt=prompt,
            opening=self.opening,
            takes=() if take is None else (take,),
            recordings=recordings,
        )


def check_world_name(name: str) -> str:
    """What people call a world. Raises UserError."""
    return check_title(name, "name", LONGEST_NAME, IN_NAMES)


def fresh_seed() -> int:
    """A random seed short enough to be read out and typed."""
    return secrets.randbelow(1_000_000)

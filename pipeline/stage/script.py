"""The script: drives to follow, frame for frame, before a person takes the wheel, and when it all
ends."""

from collections import deque
from collections.abc import Sequence

from actors.source import Take
from configs.errors import UserError
from configs.limits import check_prompt, check_seed
from models.controls import label_id


class Script:
    """Takes in order. ``current`` is in charge of labels and prompts until its last frame is
    shown."""

    def __init__(
        self, takes: Sequence[Take], stops_after: bool, duration: float | None = None
    ) -> None:
        """stops_after: the show ends with the last take. duration: or after so many seconds of
        shown stream."""
        self.current: Take | None = None
        self.stops_after = stops_after
        self.duration = duration
        self._waiting = deque(takes)

    def left(self, latent: int) -> int | None:
        """Latents of the current take that are shown after ``latent`` (-1: none of it was); None
        without a take, or where it only leads to the moment at which a person goes on."""
        if self.current is None:
            return None
        return len(self.current.labels) - max(self.current.first, latent + 1) or None

    def follow(self, takes: Sequence[Take]) -> None:
        """Follow these instead. Raises UserError for a drive that cannot be followed."""
        for take in takes:
            check_seed(take.seed)
            for label in set(take.labels):
                label_id(label)
            for prompt in set(take.prompts):
                check_prompt(prompt)
        if not takes or not all(take.labels for take in takes):
            raise UserError("replay: expected at least one latent, got none")
        self._waiting = deque(takes)

    def turn_page(self) -> Take | None:
        """The next take, which is ``current`` from now on; None when there is none."""
        self.current = self._waiting.popleft() if self._waiting else None
        return self.current

    def drop(self) -> None:
        """A person began something else."""
        self.current = None
        self._waiting.clear()

    def is_over_with(self, latents: int) -> bool:
        """Whether the current take ends once so many latents have been shown."""
        return self.current is not None and latents == len(self.current.labels)

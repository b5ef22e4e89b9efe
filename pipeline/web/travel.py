"""Messages about other times: back to a moment, into a file and out of one, a second world from
one."""

import secrets
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from actors.tasks import Tasks
from configs.errors import UserError
from pipeline.stage.past import Opening
from pipeline.stage.show import Show
from pipeline.web.messages import Message
from pipeline.web.viewer import Viewer
from pipeline.web.wheel import Wheel

CLOSE_SECONDS: Final = 5.0  # that what is under way may take when everybody is sent away
LARGEST_UPLOAD: Final = 512 * 2**20  # bytes; a published world takes about 300 MB

Branch = Callable[[Opening], Awaitable[str]]  # another world from there; its address, from the page
Handler = Callable[[Viewer, Message], None]


class Travel:
    """What a room does with the past of its show: handlers by message type, for `Room`."""

    def __init__(
        self,
        show: Show,
        wheel: Wheel,
        saved: Callable[[], None],
        branch: Branch | None,
    ) -> None:
        """saved: called when a file was written. branch: None where only one world is served."""
        self._show = show
        self._wheel = wheel
        self._saved = saved
        self._branch = branch
        self._uploads: dict[str, Viewer] = {}  # who may send a world, by a name only they are told
        self._tasks = Tasks()
        self.anyone: dict[str, Handler] = {"moments": self._moments}
        self.driver_only: dict[str, Handler] = {
            "rewind": lambda viewer, message: show.rewind(self._latent(message)),
            "undo": lambda viewer, message: show.open(show.past.left()),
            "branch": self._ask_branch,
            "save": self._ask_save,
            "open": self._offer_upload,
        }

    @property
    def branches(self) -> bool:
        """Whether a second world can begin here."""
        return self._branch is not None

    def uploader(self, name: str) -> Viewer | None:
        """Who was told this name to send a world to; it is good once."""
        return self._uploads.pop(name, None)

    async def open(self, viewer: Viewer, path: Path) -> None:
        """Go on from the world in a file that this client sent. Raises UserError."""
        opening = await self._show.past.load(path)
        if viewer is not self._wheel.driver:
            raise UserError("you are watching; take control first")
        self._show.open(opening)

    async def close(self) -> None:
        """What is under way is awaited."""
        await self._tasks.finish(CLOSE_SECONDS)

    def _latent(self, message: Message) -> int:
        """The latent that is meant; none = the one on the screen. `Past.at` looks closer."""
        latent: int = message.get("latent", self._show.latent)
        return latent

    def _moments(self, viewer: Viewer, message: Message) -> None:
        shown, seconds = self._show.latent, self._show.info.latent_seconds
        kept = [
            {"latent": latent, "ago": (shown - latent) * seconds}
            for latent in self._show.past.kept(shown)
        ]
        viewer.tell("moments", shown=shown, kept=kept)

    def _opening(self, message: Message) -> Opening:
        return self._show.past.at(self._latent(message), self._show.latent)

    def _ask_branch(self, viewer: Viewer, message: Message) -> None:
        if self._branch is None:
            raise UserError("only one world is served here: save the moment and open it elsewhere")
        self._do(viewer, self._branch_off(viewer, self._branch, self._opening(message)))

    async def _branch_off(self, viewer: Viewer, branch: Branch, opening: Opening) -> None:
        address = await branch(opening)
        viewer.tell("branched", address=address, latent=opening.moment.latent)

    def _ask_save(self, viewer: Viewer, message: Message) -> None:
        self._do(viewer, self._save(viewer, self._opening(message)))

    async def _save(self, viewer: Viewer, opening: Opening) -> None:
        path = await self._show.past.save(opening)
        self._saved()
        latent = opening.moment.latent
        viewer.tell("saved", name=path.name, file=f"recordings/{path.name}", latent=latent)

    def _offer_upload(self, viewer: Viewer, message: Message) -> None:
        self._show.past.check_kept()
        others = {name: who for name, who in self._uploads.items() if who is not viewer}
        name = secrets.token_urlsafe(16)
        self._uploads = {**others, name: viewer}
        viewer.tell("upload", address=f"open/{name}", limit=LARGEST_UPLOAD)

    def _do(self, viewer: Viewer, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside everything else; what it fails with is told."""

        async def told() -> None:
            try:
                await work
            except (UserError, RuntimeError) as error:
                viewer.tell("error", message=str(error))

        self._tasks.start(told())

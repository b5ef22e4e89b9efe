"""A world inside a notebook, steered by keys: no server, no address, nothing to configure.

    from the_matrix import the_matrix
    from pipeline.clients.notebook import drive

    world = the_matrix(streaming_model_path="models/tiny/stage4")  # one call a latent: real time
    drive(world.live("A red car in the snow at night."))

Needs the extra ``[notebook]``. The world is driven while the player has the focus and stands
otherwise, so that other cells run; what was driven is in the world, to be saved, rewound or branched.
"""

import asyncio
from pathlib import Path
from typing import Any, Final

from configs.errors import UserError
from configs.geometry import FPS
from models.controls import STRAIGHT_ON
from models.live_world import LiveWorld
from models.offline import clip_frames
from pipeline.video import encode_jpeg
from pipeline.web.messages import label_of

try:  # of the extra [notebook]; nobody else imports this module
    import anywidget
    import traitlets
except ImportError:
    raise UserError(
        "drive in a notebook: expected anywidget, which is not installed; "
        "pip install 'the-matrix-live[notebook]'"
    ) from None

AHEAD: Final = 2  # latents that lie ready in the browser at most; more would be delay
QUALITY: Final = 90


class Player:
    """Steps a world while its widget is looked at, and sends it the frames."""

    def __init__(self, world: LiveWorld, widget: Any) -> None:
        """widget: what ``send`` and ``on_msg`` of a Jupyter widget are."""
        self._world, self._widget = world, widget
        self._label, self._driving, self._waiting = STRAIGHT_ON, False, 0
        self._changed = asyncio.Event()
        widget.on_msg(self._hear)

    async def run(self) -> None:
        """Drive until the task is cancelled; a fault ends it with a line in the player."""
        while True:
            await self._changed.wait()
            if not self._driving or self._waiting >= AHEAD:
                self._changed.clear()
                continue
            self._waiting += 1
            label = self._label
            try:
                frames = self._world.step(label)  # not in a thread: a cell never meets it half done
            except (UserError, FloatingPointError) as error:
                self._widget.send({"kind": "error", "text": str(error)})
                return
            pictures = [encode_jpeg(frame, QUALITY) for frame in frames]
            if not pictures:  # the full decoder shows its first latent with the second
                self._waiting -= 1
            told = {"kind": "frames", "label": label, "latent": self._world.index}
            self._widget.send(told, buffers=pictures)
            await asyncio.sleep(0)

    def _hear(self, _widget: Any, message: Any, _buffers: Any) -> None:
        """What the browser says: which keys are held, whether it drives, that a latent was shown."""
        if not isinstance(message, dict):
            return
        if message.get("kind") == "shown":
            self._waiting = max(0, self._waiting - 1)
        elif message.get("kind") == "keys":
            held = message.get("held")
            names = [name for name in held if isinstance(name, str)] if held else []
            self._label = label_of(frozenset(names))
            self._driving = message.get("driving") is True
        self._changed.set()


def drive(world: LiveWorld) -> Any:
    """A player of this world, to stand at the end of a cell. Raises UserError outside a notebook."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise UserError(
            "drive: expected a notebook; elsewhere, step the world or run the page"
        ) from None
    height, width = world.frames.shape[1:3]
    traits: dict[str, Any] = {
        name: traitlets.Int().tag(sync=True) for name in ("width", "height", "fps")
    }
    traits["poster"] = traitlets.Bytes().tag(sync=True)
    kind = type("DriveWidget", (anywidget.AnyWidget,), {"_esm": _script(), **traits})
    widget = kind(width=width, height=height, fps=FPS, poster=_poster(world))
    player = Player(world, widget)
    widget.task = loop.create_task(player.run())  # kept with it: a task alone may be collected
    return widget


def _poster(world: LiveWorld) -> bytes:
    """What is seen before it is driven: the newest frame, else the end of the start clip."""
    frames = world.frames
    if not len(frames):
        start = world.parts.checkpoint.start_latents(world.prompt)
        frames = clip_frames(world.parts, start[-2:]) if len(start) else frames
    return encode_jpeg(frames[-1], QUALITY) if len(frames) else b""


def _script() -> str:
    return (Path(__file__).parent / "player.js").read_text("utf-8")

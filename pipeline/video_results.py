"""Videos that were made: a list of paths, which a notebook shows as players."""

import base64
import html
from pathlib import Path
from typing import Final

EMBEDDED_BYTES: Final = 32 << 20  # a notebook keeps what it shows; a larger video is only named


class Videos(list[Path]):
    """Paths of mp4 files, in the order they were made."""

    def _repr_html_(self) -> str:
        """What a notebook shows: each video in a player, inside the notebook itself."""
        return "".join(_player(path) for path in self)


def _player(path: Path) -> str:
    name = html.escape(str(path))
    if not path.is_file() or path.stat().st_size > EMBEDDED_BYTES:
        return f"<p>{name}</p>"
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    source = f"data:video/mp4;base64,{data}"
    return (
        f'<figure><video controls loop muted autoplay width="576" src="{source}"></video>'
        f"<figcaption>{name}</figcaption></figure>"
    )

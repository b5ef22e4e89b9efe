"""The worlds of a weight folder that people may pick: prompts (presets.json), and a picture of each
where the folder brings them (presets/0.jpg, 1.jpg, ... in the order of the prompts)."""

from pathlib import Path

from configs.errors import UserError
from configs.files import read_bytes, read_json_file

PRESETS_FILE = "presets.json"
LARGEST = 16 << 20  # bytes of the list
LARGEST_PICTURE = 1 << 18  # bytes
JPEG = b"\xff\xd8"


def read_presets(file: Path) -> list[str]:
    """The prompts in ``file``. Raises UserError for anything else."""
    presets = read_json_file(file, LARGEST)
    if not isinstance(presets, list) or not all(isinstance(item, str) for item in presets):
        raise UserError(f"{file}: expected a list of prompts")
    return presets


def read_pictures(file: Path, count: int) -> tuple[bytes, ...]:
    """A JPEG for each of ``count`` presets, from the folder beside their list ``file``; none
    without such a folder. Raises UserError when one is missing or no JPEG."""
    folder = file.with_suffix("")
    if not folder.is_dir():
        return ()
    pictures = []
    for index in range(count):
        path = folder / f"{index}.jpg"
        if not path.is_file():
            raise UserError(f"{path}: expected a picture for each of {count} presets, found none")
        pictures.append(read_bytes(path, LARGEST_PICTURE, str(path)))
        if not pictures[-1].startswith(JPEG):
            raise UserError(f"{path}: expected a JPEG")
    return tuple(pictures)

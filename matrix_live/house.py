"""Where the project's packages are: inside this one when installed, beside it in a checkout."""

from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).resolve().parent
HOUSE: Final = _HERE if (_HERE / "configs").is_dir() else _HERE.parent
NAMES: Final = ("configs", "models", "actors", "pipeline", "training")

"""Which version of the project this is."""

from importlib import metadata
from typing import Final

DISTRIBUTION: Final = "the-matrix-live"


def installed_version() -> str:
    """What is installed, such as "0.1.0"; "0+checkout" where nothing is."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0+checkout"

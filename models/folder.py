"""Which weight folder to use when a person names one, or none."""

from pathlib import Path

from configs.errors import UserError
from configs.load import ROOT


def model_folder(path: Path | None, stage: str = "stage4") -> tuple[Path, str]:
    """The weight folder to use, and one line that says which ("" when it was named explicitly).

    A relative path is seen from the current folder, else from ``pipeline/`` (the published
    ``../models/stage4``). No path: ``models/<stage>`` if it exists, else the embedded small world.
    """
    if path is not None:
        for folder in (path, ROOT / "pipeline" / path):
            if folder.is_dir():
                return folder.resolve(), ""
        what = "a file" if path.exists() else "nothing"
        raise UserError(
            f"model path {path}: expected a weight folder, found {what} there (looked in {Path.cwd()})"
        )
    for folder in (Path("models") / stage, ROOT / "models" / stage):
        if folder.is_dir():
            return folder.resolve(), f"model: {folder.resolve()}"
    embedded = ROOT / "models" / "tiny" / stage
    return embedded, f"model: no models/{stage} here, using the embedded small world {embedded}"

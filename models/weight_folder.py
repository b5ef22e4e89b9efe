"""Which weight folder to use when a person names one, or none."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from configs.errors import UserError
from configs.files import found_at
from configs.limits import check_path
from configs.load import ROOT
from models.stages import check_stage
from models.variants import seen

EMBEDDED: Final = "tiny"  # the small world that has every stage
EMBEDDED_LIVE: Final = "large"  # the sharper one, of stage 4 alone
SHARED_FOLDER: Final = "stage3"  # gives those beside it the parts that they lack


def model_folder(path: Path | None, stage: str = "stage4") -> tuple[Path, str]:
    """The weight folder to use, and one line that says which ("" when it was named explicitly).

    A relative path is seen from the current folder, else from ``pipeline/`` (the published
    ``../models/stage4``), else from where the project is (``models/tiny/stage4``).
    No path: ``models/<stage>`` if it exists, else an embedded small world: models/large, which has
    stage 4, else models/tiny.
    Raises UserError where nothing is, or a folder of another stage.
    """
    if path is not None:
        check_path(path, "model path")
        for folder in (path, ROOT / "pipeline" / path, ROOT / path):
            if folder.is_dir():
                check_stage(folder.resolve(), stage)
                return folder.resolve(), ""
        raise UserError(_not_there(path))
    for folder in (Path("models") / stage, ROOT / "models" / stage):
        if folder.is_dir():
            return folder.resolve(), f"model: {folder.resolve()}"
    embedded = ROOT / "models" / (EMBEDDED_LIVE if stage == "stage4" else EMBEDDED) / stage
    return embedded, f"model: no models/{stage} here, using the embedded small world {embedded}"


def weight_folder_meant(path: Path) -> str:
    """A hint where a folder is none of weights but holds some, as a hub's cache or a folder of all
    stages does, or what those beside it take from it; "" where nothing is near."""
    folders = [item for item in seen(path) if item.is_dir()]
    if (path / "snapshots").is_dir():  # a hub's cache: snapshots/REVISION/stage
        folders = [*(path / "snapshots").glob("*"), *(path / "snapshots").glob("*/*")]
    elif len(folders) == 1:  # an archive unpacked into a folder of its name
        folders += [item for item in seen(folders[0]) if item.is_dir()]
    if found := _with_transformer(folders):
        return f"; did you mean {found}?"
    beside = _with_transformer(path.parent.iterdir()) if path.name == SHARED_FOLDER else ""
    return f"; give {beside}, which takes these other parts from here" if beside else ""


def _with_transformer(folders: Iterable[Path]) -> str:
    """Those of some folders that hold one, for messages."""
    found = [str(item) for item in folders if (item / "transformer").is_dir()]
    return " or ".join(sorted(found)[:4])


def _not_there(path: Path) -> str:
    text = str(path)
    repository = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", text)
    if repository and not path.parent.is_dir():
        return (
            f"model path {text}: no such folder; if it is a Hub repository, nothing is ever "
            f"downloaded at run time: hf download {text} --local-dir models/{path.name}, then "
            f"give the folder of a stage in models/{path.name}"
        )
    how = ""
    if re.fullmatch(r"stage[234]", path.name) and not path.exists():
        how = f"; the published one: hf download MatrixTeam/TheMatrix --include '{path.name}/*'"
        how += " --local-dir models (README, Published weights)"
    return (
        f"model path {text}: expected a weight folder, found {found_at(path)} there "
        f"(looked in {Path.cwd()}){how}"
    )

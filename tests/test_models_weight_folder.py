"""Which weight folder is used: the one named, models/STAGE, else the embedded small world."""

from pathlib import Path

import pytest

from configs.errors import UserError
from models.weight_folder import model_folder
from tests.places import ROOT, SHIPPED


def test_model_folder_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if not (ROOT / "models/stage4").exists():
        folder, line = model_folder(None)
        assert folder == ROOT / "models/large/stage4"
        assert "embedded" in line and "\n" not in line
    if not (ROOT / "models/stage3").exists():
        assert model_folder(None, "stage3")[0] == SHIPPED / "stage3", "the larger has no teacher"
    (tmp_path / "models/stage4").mkdir(parents=True)
    assert model_folder(None) == (
        tmp_path / "models/stage4",
        f"model: {tmp_path / 'models/stage4'}",
    )
    assert model_folder(Path("models/stage4")) == (tmp_path / "models/stage4", "")
    assert model_folder(Path("../models")) == (ROOT / "models", "")  # as seen from pipeline/
    assert model_folder(Path("models/tiny/stage4")) == (SHIPPED / "stage4", "")
    with pytest.raises(UserError, match="found nothing there .*hf download .*'stage3/[*]'"):
        model_folder(tmp_path / "stage3")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="hf download owner/name --local-dir models/name, then"):
        model_folder(Path("owner/name"))
    for path, found in (("nowhere", "nothing"), ("file", "a file")):
        with pytest.raises(UserError, match=found) as error:
            model_folder(Path(path))
        assert "\n" not in str(error.value)

"""The strips of the documentation: every one is drawn, of the size it should have."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.checkpoint import Checkpoint
from tests.places import SHIPPED
from training import strips
from training.evaluation.dream import Dream
from training.view import BASE_HEIGHT as HEIGHT
from training.view import BASE_WIDTH as WIDTH


def test_strips_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "PRESETS", strips.PRESETS[:9])
    monkeypatch.setattr(strips, "MINUTE", 16)
    monkeypatch.setattr(strips, "HORIZON_MINUTES", 3)
    strips.render_strips(Dream(Checkpoint.open(SHIPPED / "stage4")), tmp_path)
    names = ("simulator", "reconstruction", "turns", "worlds", "prompt", "horizon")
    sizes = {name: Image.open(tmp_path / f"{name}.png").size for name in names}
    assert sizes["turns"] == (8 * (WIDTH + 2), 3 * (HEIGHT + 2) - 2)
    assert sizes["prompt"] == (10 * (WIDTH + 2), HEIGHT)
    left, _, right = np.split(
        np.array(Image.open(tmp_path / "turns.png").convert("RGB"))[:292], [98, 196]
    )
    assert np.abs(left[:96].astype(int) - right[:96]).mean() > 5


def test_missing_weights_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert strips.main([str(tmp_path), str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")

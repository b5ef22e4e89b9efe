"""Engines side by side: every one that fits is timed and compared, and the others say why not."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.choice import ENGINES
from models.checkpoint import Checkpoint
from pipeline.bench import engines
from tests.tiny_checkpoint import write_checkpoint

CPU = torch.device("cpu")


def test_every_engine_is_timed_and_compared_or_says_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "stage4"))
    monkeypatch.setattr("models.engines.choose.PASSES", 1)
    records = engines.measure(checkpoint, CPU)
    assert [record["engine"] for record in records] == list(ENGINES)
    first, half = records[:2]
    assert first["step_ratio"] == first["decode_ratio"] == 1 and first["psnr_db"] is None
    assert half["step_ms"] > 0 and half["decode_ratio"] == half["decode_ms"] / first["decode_ms"]
    assert half["psnr_db"] > 30  # bfloat16 rounds, and shows the same
    assert "no ranges" in records[3].get("reason", "no ranges: openvino is missing")
    engines.print_table(records)
    shown = capsys.readouterr().out
    assert all(name in shown for name in ENGINES) and records[3]["reason"] in shown


def test_psnr_is_of_the_mean_squared_error() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    assert engines.psnr(black, black) == math.inf
    assert engines.psnr(black + 51, black) == pytest.approx(20 * math.log10(5))

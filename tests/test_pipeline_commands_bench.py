"""The benchmark measures real runs: here small ones, for what it reports and not for how fast."""

import json
from pathlib import Path

import pytest

import pipeline.bench.load as load
from pipeline.__main__ import main
from pipeline.bench.attention import measure as measure_attention
from pipeline.bench.live import MEANINGS, columns, run_live
from pipeline.bench.options import Options
from pipeline.bench.plot import draw
from pipeline.bench.processes import in_a_process


def test_model_figures_as_table_and_json(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    assert (
        main(["bench", "model", "--model-path", str(model), "--threads", "1", "--json", str(file)])
        == 0
    )
    figures = json.loads(file.read_text())
    assert figures["machine"]["cores"] >= 1 and list(figures) == ["machine", "model"]
    (row,) = figures["model"]["threads"]
    assert row["threads"] == 1
    assert all(
        0 < row[name]["p50"] <= row[name]["p95"]
        for name in ("step_ms", "recomputed_ms", "decode_ms")
    )
    shown = capsys.readouterr().out
    assert "1 threads" in shown and "48x32" in shown and "cores" in shown


def test_both_forms_of_attention_agree(capsys: pytest.CaptureFixture[str]) -> None:
    figures = measure_attention(Options(Path(), (), 0.0, Path()), tokens=300, heads=4)
    assert figures["max_difference"] < 1e-4
    assert figures["quadratic_ms"] > 0 and figures["closed_ms"] > 0
    assert "one block, 5 x 300 tokens" in capsys.readouterr().out


def test_loading_is_measured_in_processes_of_their_own(model: Path) -> None:
    for way in (load.load_ours, load.load_plain):
        figures = in_a_process(way, str(model / "transformer"))
        assert (
            figures["seconds"] > 0
            and figures["peak_mb"] > figures["loaded_mb"] >= 0
            and figures["peak_mb"] > 50
        )


def test_loading_is_skipped_with_a_reason_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load, "LOAD_ROOM", 1e18)
    assert "disk has" in load.measure(Options(Path(), (), 0.0, tmp_path))["skipped"]
    assert "skipped: disk has" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_a_live_run_is_split_into_its_parts(model: Path, tmp_path: Path) -> None:
    figures = in_a_process(run_live, model, 3.0, True)
    assert figures["frames"] >= 24 and figures["restarts"] == 0
    assert all(figures["split_ms"][part]["p50"] >= 0 for part in MEANINGS)
    least = sum(figures["split_ms"][part]["p50"] for part in ("queue", "hop", "back"))
    assert 0 < least / 2 < figures["overhead_ms"]["p95"] >= figures["overhead_ms"]["p50"]
    assert figures["control_to_frame_ms"]["p50"] > 0 and figures["reset_to_frame_ms"]["p50"] > 0
    assert {"launcher", "DitWorker", "VaeWorker"} <= set(figures["cpu_percent"])
    assert all(memory > 50 for memory in figures["peak_rss_mb"].values())
    assert [row[0].split(":")[0] for row in columns(figures)] == [*MEANINGS, "key to frame shown"]
    draw({"just in time": figures, "free running": figures}, list(MEANINGS), tmp_path / "split.png")
    assert (tmp_path / "split.png").read_bytes().startswith(b"\x89PNG")

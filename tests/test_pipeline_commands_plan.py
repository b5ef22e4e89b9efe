"""``plan`` as a person types it."""

from pathlib import Path

import pytest

from pipeline.__main__ import main
from tests.tiny_checkpoint import write_checkpoint


def test_published_shapes_on_cards_that_are_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--device", "h200", "--gpus", "2"]) == 0
    shown = capsys.readouterr().out
    assert "predicted" in shown and "nothing of it measured" in shown and "H200" in shown
    assert "one for both" in shown and "1 + 1" in shown and "best for one world:" in shown
    assert "(the most FPS up to 16, of those the least key ms, of those the fewest" in shown


def test_names_of_devices_may_be_written_as_on_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--device", "H100"]) == 0
    assert "H100 SXM" in capsys.readouterr().out


@pytest.mark.parametrize("full", [True, False])
def test_a_folder_on_this_processor(
    tmp_path: Path, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "stage4", full_vae=full)
    assert main(["plan", "--model-path", str(folder), "--device", "cpu", "--gpus", "2"]) == 0
    shown = capsys.readouterr().out
    assert "measured now on this CPU" in shown and "/stage4, 2 x cpu" in shown


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--device", "h10"], "did you mean"),
        (
            ["--device", "mi300"],
            "unknown device 'mi300'; allowed: 4090, a100, cpu, h100, h200, l40s\n",
        ),
        (["--device", "B200"], "known are h100, h200, a100, l40s, 4090, cpu\n"),
        (["--vae", "tiny", "--model-path", "models/tiny/stage4"], "leave one of them out"),
        (["--model-path", "models/tiny/stage2"], "stage 2 (by its name), which makes base clips"),
        (["--gpus", "9"], "--gpus"),
        (["--gpus", "two"], "--gpus"),
        (["--gpus", "-1"], "--gpus: expected a whole number from 1 to 8, got '-1'"),
        (["--vae", "huge"], "expected full or tiny"),
        (["--model-path", "/nowhere"], "no such folder"),
    ],
)
def test_wrong_flags_are_told_in_a_line(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *flags]) == 2
    assert said in capsys.readouterr().err

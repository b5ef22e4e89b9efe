"""Clips of the driving world: the same again, and what they say of themselves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from configs.errors import UserError
from tests.places import ROOT
from training.clips import Recording, read_shard, render, render_clip


def test_clips_repeat_and_carry_what_they_show() -> None:
    first, second = (render_clip(7, Recording(6)) for _ in range(2))
    assert first.frames.tobytes() == second.frames.tobytes()
    assert (
        first.labels.shape == (6,)
        and first.scenes.shape == (6, 3)
        and first.motion.shape == (24, 2)
    )


@pytest.mark.parametrize("cut", [0, 1, 100, 700, None])
def test_a_damaged_shard_is_one_line(cut: int | None, tmp_path: Path) -> None:
    shard = tmp_path / "0000.npz"
    np.savez(shard, frames=np.ones((2, 8, 4, 4, 3), np.uint8), labels=np.ones((2, 2), np.int8))
    assert read_shard(shard)["frames"].shape == (2, 8, 4, 4, 3)
    if cut is None:
        shard.write_bytes(b"not numbers at all" * 100)
    else:
        shard.write_bytes(shard.read_bytes()[:cut])
    with pytest.raises(UserError, match="0000.npz: damaged .*delete it"):
        read_shard(shard)


def test_rendering_ends_after_its_minutes_and_goes_on(tmp_path: Path) -> None:
    shards = [tmp_path / "clips" / f"{k:04d}.npz" for k in range(40)]
    how = Recording(2, clips=1)
    assert not render(shards, how, minutes=0)
    made = sum(path.exists() for path in shards)
    assert 1 <= made < 40, "something is made, so that the next command is nearer"
    assert render(shards, how) and all(path.exists() for path in shards)


STOPPED = """
import sys
from pathlib import Path
from configs.errors import one_line_errors
from training.clips import Recording, render
from training.view import View

@one_line_errors
def main() -> int:
    how = Recording(8, View(1), 0.0, 4, 0)
    render([Path(sys.argv[1]) / f"{k:04d}.npz" for k in range(400)], how, 2)
    return 0

if __name__ == "__main__":
    raise SystemExit(main())
"""


def test_ctrl_c_waits_for_no_shard(tmp_path: Path) -> None:
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (tmp_path / "0000.npz").exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == 130
    assert len(list(tmp_path.glob("*.npz"))) < 100

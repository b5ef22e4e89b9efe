"""Paths of videos are a list, and players in a notebook."""

import base64
import re
from pathlib import Path

import pytest

from pipeline.video_results import Videos


def test_a_notebook_shows_each_video(tmp_path: Path) -> None:
    file = tmp_path / "a<b.mp4"
    file.write_bytes(b"a video")
    videos = Videos([file, tmp_path / "gone.mp4"])
    assert videos == [file, tmp_path / "gone.mp4"]
    shown = videos._repr_html_()
    (data,) = re.findall(r'src="data:video/mp4;base64,([^"]+)"', shown)
    assert base64.b64decode(data) == b"a video"
    assert "a&lt;b.mp4" in shown and "a<b" not in shown and "gone.mp4" in shown


def test_a_large_video_is_named_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"0123456789")
    monkeypatch.setattr("pipeline.video_results.EMBEDDED_BYTES", 9)
    assert "<video" not in Videos([tmp_path / "a.mp4"])._repr_html_()

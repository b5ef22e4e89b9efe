"""mp4 files: exact counts, the same bytes again, playable while written, and nothing
overwritten."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from configs.errors import UserError
from pipeline.video import VideoError, VideoWriter, decode_jpeg, encode_jpeg, read_video


def moving_square(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 [count, H, W, 3]: a bright square that walks one pixel a frame over a gradient."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 1] = np.linspace(0, 120, width, dtype=np.uint8)
    for index in range(count):
        frames[index, 10:26, index % 40 : index % 40 + 16] = (240, 60, 30)
    return frames


def wait_for_size(path: Path, size: int) -> None:
    """Until ffmpeg has written ``size`` bytes; it has no other way to say so."""
    deadline = time.monotonic() + 20
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < deadline, "ffmpeg wrote nothing"


def test_frames_come_back(tmp_path: Path) -> None:
    frames = moving_square(37)
    with VideoWriter(tmp_path / "a.mp4", 64, 48) as writer:
        writer.write(frames[:4])
        writer.write(frames[4:])
    back, fps = read_video(tmp_path / "a.mp4")
    assert back.shape == frames.shape and fps == 16
    assert np.abs(back.astype(int) - frames).mean() < 4
    assert len(read_video(tmp_path / "a.mp4", limit=5)[0]) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("fragmented", [False, True])
def test_same_frames_same_bytes(tmp_path: Path, fragmented: bool) -> None:
    for name in ("a.mp4", "b.mp4"):
        with VideoWriter(tmp_path / name, 64, 48, fragmented=fragmented) as writer:
            writer.write(moving_square(20))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_fragmented_file_plays_while_it_is_written_and_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "live.mp4"
    writer = VideoWriter(path, 64, 48, fragmented=True)
    writer.write(moving_square(40))
    wait_for_size(path, 2000)
    assert len(read_video(path)[0]) >= 16
    writer._process.send_signal(signal.SIGKILL)
    writer._process.wait()
    with pytest.raises(VideoError, match="ffmpeg ended.*frames are kept"):
        for _ in range(100):
            writer.write(moving_square(40))
    assert len(read_video(path)[0]) >= 16
    with pytest.raises(VideoError, match="already"):
        writer.write(moving_square(1))


def test_a_death_at_the_end_is_told_and_leaves_no_half_file(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 64, 48)
    writer.write(moving_square(3))
    writer._process.kill()
    writer._process.wait()
    with pytest.raises(VideoError, match="code -9"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError), VideoWriter(tmp_path / "a.mp4", 64, 48) as writer:
        writer.write(moving_square(3))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fragmented", [False, True])
def test_no_frames_no_file(tmp_path: Path, fragmented: bool) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 64, 48, fragmented=fragmented)
    assert writer.close() is None and writer.close() is None
    assert list(tmp_path.iterdir()) == []


def test_never_overwrites_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(UserError, match="exists"):
        VideoWriter(path, 64, 48)
    assert path.read_bytes() == b"precious"
    with VideoWriter(path, 64, 48, overwrite=True) as writer:
        writer.write(moving_square(2))
        assert path.read_bytes() == b"precious"  # until the new one is whole
    assert len(read_video(path)[0]) == 2


@pytest.mark.parametrize(
    "name",
    [
        "-y.mp4",
        "file:x.mp4",
        "http://host/x.mp4",
        "pipe:1",
        "concat:a|b",
        "no/such/folder/x.mp4",
        "",
        "a\0b.mp4",
    ],
)
def test_refused_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        VideoWriter(name, 64, 48)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_odd_names_that_are_files_work(tmp_path: Path) -> None:
    path = tmp_path / "a b'; $(touch x) %d 100%.mp4"
    with VideoWriter(path, 64, 48) as writer:
        writer.write(moving_square(2))
    assert len(read_video(path)[0]) == 2


@pytest.mark.parametrize("size", [(63, 48), (64, 47), (0, 48), (True, 48), (64.0, 48), (10000, 48)])
def test_impossible_sizes(tmp_path: Path, size: tuple) -> None:
    with pytest.raises(UserError, match="expected"):
        VideoWriter(tmp_path / "a.mp4", *size)


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 64, 48) as writer:
        for bad in (moving_square(1).astype(float), moving_square(1)[:, :40], moving_square(1)[0]):
            with pytest.raises(ValueError, match="expected uint8"):
                writer.write(bad)


def test_reading_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"<html>no</html>" * 50)
    for name in ("a.mp4", "none.mp4", "."):
        with pytest.raises(UserError, match="expected|not a video"):
            read_video(tmp_path / name)


def test_jpeg_pictures_come_back() -> None:
    picture = np.repeat(moving_square(1)[0], 2, axis=1)
    small, large = encode_jpeg(picture, 30), encode_jpeg(picture[:, ::-1][:, ::-1], 90)
    assert len(small) < len(large)
    assert np.abs(decode_jpeg(large).astype(int) - picture).mean() < 4
    with pytest.raises(ValueError):
        decode_jpeg(b"no picture")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_unfinished_file(number: signal.Signals, tmp_path: Path) -> None:
    code = f"""
import signal, time, numpy as np
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # where the tests themselves run under nohup
from pipeline.video import VideoWriter
with VideoWriter({str(tmp_path / "x.mp4")!r}, 64, 48) as writer:
    writer.write(np.zeros((4, 48, 64, 3), np.uint8))
    print("writing", flush=True)
    time.sleep(60)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "writing\n"
    child.send_signal(number)
    assert child.wait(30) != 0
    assert not list(tmp_path.iterdir())


def test_signals_are_given_back_and_one_that_is_ignored_stays_so(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with VideoWriter(tmp_path / "x.mp4", 64, 48) as writer:
            writer.write(np.zeros((4, 48, 64, 3), np.uint8))
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != before
        assert signal.getsignal(signal.SIGTERM) == before
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, hang_up)


def test_a_full_disk_is_said_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.video.check_output_file", lambda path, *_: path)
    path = tmp_path / "x.mp4"
    path.symlink_to("/dev/full")
    writer = VideoWriter(path, 64, 48, fragmented=True)
    with pytest.raises(VideoError) as failed:
        for _ in range(2000):
            writer.write(moving_square(16))
        writer.close()
    words = str(failed.value)
    assert words.startswith(f"video {path}: No space left on device; the first "), words

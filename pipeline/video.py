"""The one door to codecs: mp4 files through an ffmpeg binary (arguments as lists), JPEG pictures and
H.264 frames for the page."""

import contextlib
import errno
import math
import os
import subprocess
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import simplejpeg
from av.video.reformatter import ColorRange, Colorspace

from configs.errors import UserError
from configs.files import found_at
from configs.geometry import FPS, seconds_of
from configs.limits import check_output_file, check_path, whole_number
from models.start_picture import start_frames
from pipeline.signals import leave_on_signals, nothing

DISK_TROUBLES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# One encoder thread and no dates or versions in the file: the same frames give the same bytes on
# every machine.
ENCODING = (
    *[
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-crf",
        "17",
        "-pix_fmt",
        "yuv420p",
        "-threads",
        "1",
    ],
    *[
        "-map_metadata",
        "-1",
        "-fflags",
        "+bitexact",
        "-flags:v",
        "+bitexact",
        "-x264-params",
        "threads=1",
    ],
)
CLOSE_SECONDS = 60.0  # ffmpeg finishes a file within a second; longer means that it hangs


class VideoError(OSError):
    """ffmpeg ended before its work was done (killed, disk full, no such encoder); the message says
    what it said."""


class VideoWriter:
    """Frames to an H.264 mp4 file.

    fragmented=False: frames go to ``NAME.part``, which gets its name when ``close`` has finished
    it. fragmented=True: the file bears its name from the start and plays at any moment, up to the
    last whole second, also when this process or ffmpeg is killed.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        fps: int = FPS,
        fragmented: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Raises UserError for a path that may not be written, odd sizes or an impossible rate;
        starts ffmpeg."""
        self.path = check_output_file(Path(path), "video", overwrite).absolute()
        for name, size in (("width", width), ("height", height)):
            if whole_number(f"video {name}", size, 2, 8192) % 2:
                raise UserError(
                    f"video {name}: expected an even number of pixels (4:2:0 colour), got {size}"
                )
        whole_number("video fps", fps, 1, 240)
        self.width, self.height, self.fragmented, self.frames = width, height, fragmented, 0
        self._target = self.path if fragmented else self.path.with_name(self.path.name + ".part")
        self._open(fps)
        self._let_go = nothing if fragmented else leave_on_signals()

    def _open(self, fps: int) -> None:
        size = f"{self.width}x{self.height}"
        source = f"-f rawvideo -pix_fmt rgb24 -s {size} -r {fps} -i -".split()
        container = ["-movflags", "+faststart"]
        if self.fragmented:
            moving = "+frag_keyframe+empty_moov+default_base_moof"
            container = f"-g {fps} -tune zerolatency -movflags {moving}".split()
        # Not a pipe: one that nobody reads would block ffmpeg when full.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [
                *(imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y"),
                *(*source, *ENCODING, *container),
                *("-flush_packets", "1", "-f", "mp4", f"file:{self._target}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            # Ctrl-C in a terminal is for us; ffmpeg ends when its input ends
            start_new_session=True,
        )

    def write(self, frames: np.ndarray) -> None:
        """Append frames uint8 [n, H, W, 3] (RGB). Raises VideoError when ffmpeg has died."""
        if (
            frames.dtype != np.uint8
            or frames.ndim != 4
            or frames.shape[1:] != (self.height, self.width, 3)
        ):
            expected = f"uint8 [n, {self.height}, {self.width}, 3]"
            raise ValueError(
                f"video frames: expected {expected}, got {frames.dtype} {list(frames.shape)}"
            )
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(np.ascontiguousarray(frames).data)
            stdin.flush()
        except (BrokenPipeError, ValueError):  # ValueError: closed after an earlier failure
            raise self._failure() from None
        self.frames += len(frames)

    def close(self) -> Path | None:
        """Finish the file and return its path; None and no file when no frame was ever written.
        Twice is fine."""
        if self._errors.closed:
            return self.path if self.frames else None
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        try:
            code = self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if not self.frames:
            self._discard()
            return None
        if code != 0:
            raise self._failure()
        self._let_go()
        self._errors.close()
        if not self.fragmented:
            self._target.replace(self.path)
        return self.path

    def abort(self) -> None:
        """Stop at once. An unfinished file is removed; a fragmented one keeps what it has."""
        if not self._errors.closed:
            self._process.kill()
            self._process.wait()
            self._discard()

    def _discard(self) -> None:
        self._let_go()
        self._errors.close()
        if not self.fragmented or not self.frames:
            self._target.unlink(missing_ok=True)

    def _failure(self) -> VideoError:
        """What ffmpeg said, once it is gone; later calls keep failing the same way."""
        if self._errors.closed:
            return VideoError(f"video {self.path}: writing has already failed or ended")
        self._process.kill()
        code = self._process.wait()
        self._errors.seek(0)
        said = " ".join(self._errors.read().decode(errors="replace").split())
        self._discard()
        kept = (
            f"; the first {self.frames} frames are kept" if self.fragmented and self.frames else ""
        )
        why = disk_trouble(said) or (
            f"ffmpeg ended with code {code} ({said[-300:] or 'it said nothing'})"
        )
        return VideoError(f"video {self.path}: {why}{kept}")

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def disk_trouble(said: str) -> str:
    """What the disk answered, in what ffmpeg said of it many times over; else ""."""
    return next((cause for cause in map(os.strerror, DISK_TROUBLES) if cause in said), "")


def read_video(path: str | Path, limit: int | None = None) -> tuple[np.ndarray, float]:
    """All frames (or the first ``limit``) uint8 [n, H, W, 3] of a video file, and its frames per
    second.

    Raises UserError when there is no such file or ffmpeg finds no video in it.
    """
    if not Path(path).is_file():
        raise UserError(f"video {path}: expected a video file, found {found_at(Path(path))} there")
    reader: Iterator[Any] = imageio_ffmpeg.read_frames(
        f"file:{os.path.abspath(path)}", pix_fmt="rgb24"
    )
    try:
        about = next(reader)
        width, height = about["size"]
        frames = []
        for data in reader:
            frames.append(np.frombuffer(data, np.uint8).reshape(height, width, 3))
            if limit is not None and len(frames) >= limit:
                break
    except (OSError, RuntimeError, KeyError, ValueError):
        raise UserError(
            f"video {path}: not a video that ffmpeg can read; give an mp4 file"
        ) from None
    finally:
        reader.close()  # type: ignore[attr-defined]
    if not frames:
        raise UserError(f"video {path}: holds no frames; give another file")
    return np.stack(frames), float(about["fps"])


def read_first_frames(path: Path, seconds: float) -> tuple[np.ndarray, float]:
    """A picture, or so much of a video and at least a frame: uint8 [n, H, W, 3] and frames per second.

    Raises UserError for what is neither."""
    check_path(path, "start")
    if not path.is_file():
        raise UserError(
            f"start {path}: expected a picture or a video, found {found_at(path)} there"
        )
    try:
        _, fps = read_video(path, limit=1)
        frames, _ = read_video(path, limit=math.ceil(max(1.0, fps * seconds)))
    except UserError:
        raise UserError(
            f"start {path}: not a picture or video that can be read; give a PNG, a JPEG or an mp4"
        ) from None
    return frames, fps


def read_start(path: Path, size: tuple[int, int], latents: int) -> np.ndarray:
    """A picture or a video as the frames of this size (height, width) that a world of so many
    latents begins with (`models.start_picture`). Raises UserError."""
    return start_frames(*read_first_frames(path, seconds_of(latents)), path, size, latents)


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """A picture uint8 [H, W, 3] RGB as JPEG; quality 1 to 100.

    4:2:0 colour, but 4:4:4 for small pictures: they are shown enlarged, where smeared colours are
    seen and cost 1 kB."""
    subsampling = "444" if image.shape[1] < 320 else "420"
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", subsampling)


def decode_jpeg(data: bytes) -> np.ndarray:
    """The picture uint8 [H, W, 3] RGB of a JPEG. Raises ValueError when it is none."""
    return simplejpeg.decode_jpeg(data, "RGB")


class FrameEncoder:
    """Pictures one by one to H.264 (Annex B). Each comes out at once: no B frames, no look-ahead, one
    thread, so that none waits for a later one."""

    def __init__(self, width: int, height: int, fps: int, crf: int) -> None:
        """``width`` and ``height`` are even (4:2:0 colour); ``crf`` is x264's constant quality, 0
        to 51, lower is better."""
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.framerate = Fraction(1, fps), Fraction(fps)
        context.max_b_frames = 0
        # said outright: browsers guess another matrix for large pictures
        context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG
        context.options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "crf": str(crf),
            "forced-idr": "1",
            # key frames come on demand only; each carries what a decoder needs to begin there
            "x264-params": "keyint=infinite:repeat-headers=1:annexb=1:threads=1:scenecut=0:aq-mode=0",
        }
        self._context = context
        self._count = 0

    def encode(self, image: np.ndarray, key: bool) -> bytes:
        """A picture uint8 [H, W, 3] RGB as one access unit; ``key``: decoding can begin with it."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
        )
        frame.pts = self._count
        self._count += 1
        if key:
            frame.pict_type = av.video.frame.PictureType.I
        (packet,) = self._context.encode(frame)
        return bytes(packet)


def ffmpeg_encoders() -> frozenset[str]:
    """Names of the encoders that the ffmpeg binary has. Raises OSError when it does not run."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-encoders"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    lines = listed.stdout.partition("------")[2].splitlines()
    return frozenset(line.split()[1] for line in lines if len(line.split()) > 1)

"""Everything about one GPU in ten minutes: is each fast path right, how fast is it, how fast is a
stream. Needs torch, safetensors and numpy only; random weights are made on the device.

Results are written part by part, so that a run that is cut short has told what it had. On a CPU,
``--shape tiny`` runs every part that exists there.
"""

import copy
import functools
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from configs.errors import UserError
from configs.geometry import FRAMES_PER_LATENT
from configs.schema import StreamSettings
from models.cost import Window, call_cost
from models.device import (
    Lane,
    Paths,
    device_name,
    peak_device_memory,
    pick_device,
    pick_dtype,
    synchronise,
)
from models.engines.fast import CapturedStepper, prepare, prepare_decoder
from models.frames import StreamDecoder
from models.parallel import SequenceGroup
from models.transformer import TextTokens, Transformer
from pipeline.bench.options import Options
from pipeline.bench.processes import in_a_pair
from pipeline.bench.shapes import SHAPES, TINY, Shape, full_decoder, tiny_decoder, transformer
from pipeline.bench.table import table
from pipeline.bench.timing import percentiles, samples

# What is compared with the plain path, and how far it may be from it in float32.
PATHS: Final = {
    "fused": ("fused", 1e-5),
    "flash": ("flash", 1e-4),
    "efficient": ("efficient", 1e-4),
    "cudnn": ("cudnn", 1e-4),
    "graph": ("fused,graph", 1e-5),
    "compiled": ("fused,compiled", 1e-4),
    "compiled, graph": ("fused,compiled,graph", 1e-4),
    "float8, graph": ("fused,float8,graph", 0.12),
}
TIMESTEPS: Final = (0, 249, 499, 749, 999)
Stepper = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """Where and with what is measured."""

    shape: Shape
    device: torch.device
    dtype: torch.dtype

    def stepper(self, model: Transformer, paths: Paths) -> Stepper:
        """A model call from a window [F, C, h, w]; the model was prepared for `paths`."""
        config = self.shape.transformer
        draw = torch.Generator().manual_seed(1)
        text = torch.randn(1, config.max_text_seq_length, config.text_embed_dim, generator=draw)
        control = torch.randn(1, 10, config.control_dim, generator=draw)
        labels = torch.tensor([0, 1, 2, 0, 9], device=self.device)
        rows = model.modulate(torch.tensor([TIMESTEPS], device=self.device))
        vocabulary = model.control_keys(control.to(self.device, self.dtype), rows)
        tokens = model.embed_text(text.to(self.device, self.dtype))
        if paths.graph or paths.attention != "auto":
            stepper = CapturedStepper(model, [(rows, vocabulary)], attention=paths.attention)
            return lambda window: stepper.velocity(window, tokens, 0, labels)
        return lambda window: self._plain(model, window, tokens, rows, vocabulary, labels)

    def _plain(
        self,
        model: Transformer,
        window: Tensor,
        tokens: TextTokens,
        rows: Any,
        vocabulary: list[tuple[Tensor, Tensor]],
        labels: Tensor,
    ) -> Tensor:
        keys = [(k.index_select(1, labels), v.index_select(1, labels)) for k, v in vocabulary]
        return model.denoise(window[None], tokens, rows, keys)

    def latents(self, count: int) -> Tensor:
        """[count, C, h, w], the same for the same count."""
        config = self.shape.transformer
        size = (count, config.in_channels, config.sample_height, config.sample_width)
        draw = torch.Generator().manual_seed(2)
        return torch.randn(size, generator=draw).to(self.device, self.dtype)

    def decoder(self, tiny: bool, paths: Paths) -> StreamDecoder:
        """A fresh stream of the tiny or the full decoder."""
        if tiny:
            return tiny_decoder(self.shape, self.device, self.dtype).stream()
        vae = prepare_decoder(full_decoder(self.shape, self.device, self.dtype), paths)
        return vae.stream(in_place=paths.channels_last)


def measure(options: Options) -> dict[str, Any]:
    """Run every part; `options.json` is written after each."""
    if options.shape not in SHAPES:
        raise UserError(f"--shape {options.shape!r}: expected {' or '.join(SHAPES)}")
    device = pick_device()
    if device.type == "cpu" and options.shape == "published":
        raise UserError("bench gpu: no CUDA device here; --shape tiny tries every part on a CPU")
    setting = Setting(SHAPES[options.shape], device, pick_dtype("auto", device))
    figures: dict[str, Any] = {"device": device_name(device), "torch": torch.__version__}
    print(f"{figures['device']}, torch {torch.__version__}, {options.shape} shapes")
    parts = (equality, peak, step, decode, stream, ranks, tests)
    for part in parts:
        start = time.perf_counter()
        try:
            with torch.inference_mode():
                figures[part.__name__] = part(setting)
        except Exception as error:  # the other parts still tell what they have to
            figures[part.__name__] = {"failed": f"{type(error).__name__}: {error}"[:500]}
            print(f"{part.__name__}: {figures[part.__name__]['failed']}")
        print(f"-- {part.__name__}: {time.perf_counter() - start:.0f} s", flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def equality(setting: Setting) -> dict[str, Any]:
    """Every path against the plain one, small shapes, float32; relative error and its bound."""
    small = replace(setting, shape=TINY, dtype=torch.float32)
    plain, window = transformer(TINY, setting.device, torch.float32), small.latents(5)
    expected = small.stepper(plain, Paths())(window)
    results: dict[str, Any] = {}
    for name, (text, bound) in PATHS.items():
        paths = Paths.parse(text)
        try:
            model = prepare(copy.deepcopy(plain), paths)
            got = small.stepper(model, paths)(window)
            error = float((got - expected).norm() / expected.norm())
            results[name] = {"error": error, "bound": bound, "ok": error <= bound}
        except RuntimeError as failure:  # a backend that this device does not have
            results[name] = {"missing": str(failure).splitlines()[0][:200]}
    results["channels_last decoder"] = _decoder_equality(small)
    rows = [
        (name, r.get("error"), r.get("bound"), r.get("ok", "missing"))
        for name, r in results.items()
    ]
    table(("against the plain path", "error", "bound", "ok"), rows)
    return results


def _decoder_equality(setting: Setting) -> dict[str, Any]:
    plain = full_decoder(setting.shape, setting.device, setting.dtype)
    fast = prepare_decoder(copy.deepcopy(plain), Paths(channels_last=True))
    one, other = plain.stream(), fast.stream(in_place=True)
    latents = setting.latents(4)
    expected = torch.cat([one.decode(latent[None]) for latent in latents])
    got = torch.cat([other.decode(latent[None]) for latent in latents])
    error = float((got - expected).norm() / expected.norm())
    return {"error": error, "bound": 1e-4, "ok": error <= 1e-4}


def peak(setting: Setting) -> dict[str, Any]:
    """What the device attains at best: a large matrix product, a large addition."""
    size = 8192 if setting.device.type == "cuda" else 512
    a = torch.randn(size, size, device=setting.device, dtype=setting.dtype)

    def product() -> None:
        a @ a
        synchronise(setting.device)

    def addition() -> None:
        a + a
        synchronise(setting.device)

    times = 20 * setting.shape.times
    seconds = [percentiles(samples(work, times))["p50"] / 1e3 for work in (product, addition)]
    tera = 2 * size**3 / max(seconds[0], 1e-9) / 1e12
    giga = 3 * a.numel() * a.element_size() / max(seconds[1], 1e-9) / 1e9
    print(f"{tera:.1f} tera-operations a second, {giga:.0f} GB/s, {setting.dtype}")
    return {"tera_operations": tera, "gigabytes_a_second": giga}


def step(setting: Setting) -> dict[str, Any]:
    """One model call of the shape by every path: ms, share of the measured peak, memory."""
    plain = transformer(setting.shape, setting.device, setting.dtype)
    window, best = setting.latents(5), peak(setting)["tera_operations"]
    work = call_cost(
        setting.shape.transformer, Window.of(setting.shape.transformer, StreamSettings())
    )
    results: dict[str, Any] = {}
    for name, text in {"plain": "plain", **{n: t for n, (t, _) in PATHS.items()}}.items():
        paths = Paths.parse(text)
        try:
            model = prepare(copy.deepcopy(plain), paths, print)
            call = setting.stepper(model, paths)

            def run(call: Stepper = call) -> None:
                call(window)
                synchronise(setting.device)

            peak_device_memory(setting.device)
            timed = percentiles(samples(run, setting.shape.times, warm=3))
        except RuntimeError as failure:
            results[name] = {"missing": str(failure).splitlines()[0][:200]}
            continue
        tera = work.operations / (timed["p50"] / 1e3) / 1e12
        memory = peak_device_memory(setting.device) / 1e9
        results[name] = {**timed, "share_of_peak": tera / best, "gigabytes": memory}
    rows = [
        (name, r.get("p50"), r.get("p95"), r.get("share_of_peak"), r.get("gigabytes"))
        for name, r in results.items()
    ]
    table(("step, ms", "p50", "p95", "share of peak", "GB"), rows)
    return results


def decode(setting: Setting) -> dict[str, Any]:
    """One latent by every decoder: ms and memory, frames on the host as bytes included."""
    results: dict[str, Any] = {}
    latents = setting.latents(2)
    for name, tiny, text in (
        ("full", False, "plain"),
        ("full, channels_last", False, "channels_last"),
        ("tiny", True, "plain"),
    ):
        decoder = setting.decoder(tiny, Paths.parse(text))
        decoder.push(latents)
        peak_device_memory(setting.device)
        push = functools.partial(decoder.push, latents[:1])
        timed = percentiles(samples(push, setting.shape.times))
        results[name] = {**timed, "gigabytes": peak_device_memory(setting.device) / 1e9}
    rows = [(name, r["p50"], r["p95"], r["gigabytes"]) for name, r in results.items()]
    table(("decode, ms", "p50", "p95", "GB"), rows)
    return results


def stream(setting: Setting) -> dict[str, Any]:
    """A stream with JPEG of every frame: frames a second and ms from a step's start to the last
    JPEG; decode after the step, and beside the next one on a lane of its own."""
    paths = Paths(fused=True, graph=True, channels_last=True)
    model = prepare(transformer(setting.shape, setting.device, setting.dtype), paths)
    call, jpeg = setting.stepper(model, paths), _jpeg()
    results: dict[str, Any] = {"jpeg": jpeg is not None}
    for name, tiny in (("full", False), ("tiny", True)):
        for beside in (False, True):
            decoder = setting.decoder(tiny, paths)
            label = f"{name}, {'beside' if beside else 'after'}"
            results[label] = _stream(setting, call, decoder, jpeg, beside)
    shown = [(name, r["fps"], r["delay_ms"]) for name, r in results.items() if name != "jpeg"]
    table(("stream", "FPS", "delay ms"), shown)
    return results


def _stream(
    setting: Setting,
    call: Stepper,
    decoder: StreamDecoder,
    jpeg: Callable[[np.ndarray], bytes] | None,
    beside: bool,
) -> dict[str, float]:
    window, lane, delays = setting.latents(5), Lane(setting.device), []
    waiting: tuple[Tensor, float] | None = None
    decoder.push(window[:2])
    call(window)
    synchronise(setting.device)
    start = time.perf_counter()
    for number in range(setting.shape.latents + 1):
        if waiting is not None and not beside:
            delays.append(_shown(decoder, waiting, jpeg))
            waiting = None
        lane.follow()  # the decode waits for the latent, not for the step that begins now
        begun = time.perf_counter()
        velocity = call(window) if number < setting.shape.latents else None
        if waiting is not None:
            with lane.running():
                delays.append(_shown(decoder, waiting, jpeg))
        if velocity is not None:
            window = torch.cat((window[1:], (window[-1:] - 0.1 * velocity[0, -1:])))
            waiting = (window[:1].clone(), begun)
        else:
            waiting = None
    lane.wait()
    seconds = time.perf_counter() - start
    delay = 1000 * sum(delays) / len(delays)
    return {"fps": FRAMES_PER_LATENT * setting.shape.latents / seconds, "delay_ms": delay}


def _shown(
    decoder: StreamDecoder,
    waiting: tuple[Tensor, float],
    jpeg: Callable[[np.ndarray], bytes] | None,
) -> float:
    latent, begun = waiting
    for frame in decoder.push(latent):
        if jpeg is not None:
            jpeg(frame)
    return time.perf_counter() - begun


def _jpeg() -> Callable[[np.ndarray], bytes] | None:
    if importlib.util.find_spec("simplejpeg") is None:
        return None
    # not among the three packages that this benchmark needs
    from pipeline.video import encode_jpeg

    return lambda frame: encode_jpeg(frame, 85)


def ranks(setting: Setting) -> dict[str, Any]:
    """Two processes on this one device: relative error against one, over nccl and gloo."""
    backends = ("nccl", "gloo") if setting.device.type == "cuda" else ("gloo",)
    results: dict[str, Any] = {}
    for backend in backends:
        try:
            results[backend] = {"error": max(in_a_pair(_rank, backend, str(setting.device)))}
        except Exception as error:  # nccl refuses two ranks on one device: that is a result
            results[backend] = {"refused": f"{type(error).__name__}: {error}"[:200]}
    print(results)
    return results


def _rank(rank: int, method: str, backend: str, name: str) -> float:
    device = torch.device(name)
    setting = Setting(TINY, device, torch.float32)
    model, window = transformer(TINY, device, torch.float32), setting.latents(5)
    group = SequenceGroup.join(rank, 2, init_method=method, backend=backend, device=name)
    text = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(3)).to(device)
    control = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(4)).to(device)
    times = torch.tensor([TIMESTEPS], device=device)
    with torch.inference_mode():
        expected = model(window[None], times, text, control)
        got = model(window[None], times, text, control, group)
    group.close()
    return float((got - expected).norm() / expected.norm())


def tests(setting: Setting) -> dict[str, Any]:
    """``pytest -m gpu``, where pytest is installed and there is a GPU."""
    if setting.device.type != "cuda" or importlib.util.find_spec("pytest") is None:
        print("pytest -m gpu: not here")
        return {"run": False}
    root = Path(__file__).resolve().parent.parent.parent
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    print(done.stdout[-1500:])
    return {"run": True, "code": done.returncode, "tail": done.stdout[-1500:]}

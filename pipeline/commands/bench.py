"""Measure this machine (``python -m pipeline bench``): every figure comes with its baseline, both
from the same run."""

import argparse
import functools
import json
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from configs.errors import UserError
from configs.limits import check_output_file
from configs.load import load, model_folder
from configs.schema import RunConfig

PARTS = ("attention", "model", "live", "load")
GIGABYTE = 1e9
LOAD_ROOM = 6.0 * GIGABYTE  # a full-shape two-byte transformer (4.0 GB) and some air
PLAIN_ROOM = 15.0 * GIGABYTE  # memory for a float32 copy beside the file's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``bench``."""
    parser.add_argument(
        "part", nargs="?", default="all", metavar="PART", help=f"all (default), {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--model-path", metavar="DIR", help="weights of model and live (default: as for run)"
    )
    parser.add_argument(
        "--threads", metavar="N,N", default="1,2", help="thread counts of part model (default 1,2)"
    )
    parser.add_argument(
        "--seconds",
        metavar="N",
        default="60",
        help="seconds of shown stream of part live (default 60)",
    )
    parser.add_argument(
        "--folder",
        metavar="DIR",
        help="where part load writes its 4 GB (default: the temporary folder)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures there as well")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the split of the live delay")


def main(args: argparse.Namespace) -> int:
    """Run the parts asked for and print a table for each."""
    if args.part != "all" and args.part not in PARTS:
        raise UserError(f"bench: unknown part {args.part!r}; expected all, {', '.join(PARTS)}")
    wanted = PARTS if args.part == "all" else (args.part,)
    for name in ("json", "plot"):
        if getattr(args, name):
            check_output_file(Path(getattr(args, name)), f"--{name}")
    config = load(RunConfig, {"model_path": args.model_path, "duration": args.seconds})
    threads = _threads(args.threads)
    model, line = model_folder(config.model_path)
    figures: dict[str, Any] = {"machine": machine()}
    print(f"machine: {figures['machine']['summary']}")
    print(line or f"model: {model}")
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "attention": attention,
        "model": functools.partial(model_speed, model, threads),
        "live": functools.partial(live_speed, model, config.duration or 60.0, args.plot),
        "load": functools.partial(load_speed, Path(args.folder or tempfile.gettempdir())),
    }
    for part in wanted:
        print(f"\n== {part}", flush=True)
        figures[part] = work[part]()
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    processor = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        processor = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
            processor,
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    load_average = os.getloadavg()[0]
    summary = f"{cores} cores of {processor}, {memory:.0f} GiB, torch {torch.__version__}, load {load_average:.1f}"
    return {
        "summary": summary,
        "cores": cores,
        "processor": processor,
        "memory_gib": round(memory, 1),
    }


def attention(tokens: int = 1350, heads: int = 30) -> dict[str, Any]:
    """Control attention of one block: F keys in closed form against the published F S x F S causal
    form.

    Full size is F = 5 latents of S = 1350 tokens, 30 heads of 64 (reference section 2). Both with
    the output projection, which the closed form applies to the F values. The second row includes
    the projections of keys and values, which the published form computes on repeated tokens.
    """
    import torch
    import torch.nn.functional as functional

    from models.attention import control_attention, control_bias
    from models.device import use_threads

    frames, width = 5, 64
    cores = use_threads()
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, frames, tokens, heads, width, generator=generator)
    control = torch.randn(1, frames, heads * width, generator=generator)
    *weights, last = (
        torch.randn(3, heads * width, heads * width, generator=generator) * (heads * width) ** -0.5
    )
    bias = control_bias(frames, tokens, 0, tokens, q.device)

    def keys(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        k, v = ((x @ weight).unflatten(-1, (heads, width)) for weight in weights)
        return k, v

    def quadratic(k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        query, key, value = (x.transpose(1, 2) for x in (q.flatten(1, 2), k, v))
        out = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return (out.transpose(1, 2).flatten(2) @ last).unflatten(1, (frames, tokens))

    def closed_form(k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        values = torch.einsum("bfhd,hdo->bfho", v, last.unflatten(0, (heads, width)))
        return control_attention(q, k, values, bias)

    repeated = control.repeat_interleave(tokens, dim=1)
    few, many = keys(control), keys(repeated)
    with torch.inference_mode():
        closed = stopwatch(lambda: closed_form(*few), 5)
        published = stopwatch(lambda: quadratic(*many), 2)
        closed_block = stopwatch(lambda: closed_form(*keys(control)), 5)
        published_block = stopwatch(lambda: quadratic(*keys(repeated)), 2)
        error = (closed_form(*few) - quadratic(*many)).abs().max().item()
    rows = [
        ("attention and output projection", closed, published, published / closed),
        (
            "with key and value projections",
            closed_block,
            published_block,
            published_block / closed_block,
        ),
    ]
    table(
        (
            f"one block, {frames} x {tokens} tokens",
            "closed form ms",
            "quadratic ms",
            "times faster",
        ),
        rows,
    )
    print(f"largest difference {error:.1e}; {cores} threads, float32")
    return {
        "closed_ms": closed,
        "quadratic_ms": published,
        "closed_with_projections_ms": closed_block,
        "quadratic_with_projections_ms": published_block,
        "max_difference": error,
        "threads": cores,
    }


def model_speed(model: Path, threads: Sequence[int]) -> dict[str, Any]:
    """Outer step and decode of one latent, per thread count. Baseline of the step: everything
    recomputed in each step.

    The step projects text, computes modulations and control keys once per prompt; a plain forward
    does so every time."""
    import torch

    from models.checkpoint import Checkpoint
    from models.device import pick_device, synchronise, use_threads
    from models.offline import Parts
    from models.world import World

    checkpoint = Checkpoint.open(model)
    device = pick_device()
    parts = Parts(checkpoint, device)
    prompt = (checkpoint.presets or ["a road"])[0]
    rows, figures = [], []
    for count in threads if device.type == "cpu" else threads[:1]:
        use_threads(count)
        world = World(parts, device=device, dtype=parts.dtype)
        world.reset(42, prompt, checkpoint.start_latents(prompt))
        decoder = parts.decoder()
        labels = ["D"] * world.settings.window_size
        emitted = world.step(labels).latents
        plain = (
            world.state().latents[None].to(device, parts.dtype),
            torch.zeros(1, world.settings.latents, device=device),
            parts.encode([prompt]).to(device, parts.dtype),
            parts.control_embeddings()[None, : world.settings.latents].to(device, parts.dtype),
        )

        def step(world: World = world, labels: list[str] = labels) -> None:
            world.step(labels)
            synchronise(device)

        def forward(world: World = world, plain: tuple[torch.Tensor, ...] = plain) -> None:
            with torch.inference_mode():
                for _ in range(world.settings.inner_steps):
                    world.transformer(*plain)
            synchronise(device)

        steps, whole = samples(step, 40), samples(forward, 20)
        decodes = samples(lambda decoder=decoder, latent=emitted[:1]: decoder.push(latent), 40)  # type: ignore[misc]
        row = {
            "threads": count,
            "step_ms": percentiles(steps),
            "recomputed_ms": percentiles(whole),
            "decode_ms": percentiles(decodes),
        }
        figures.append(row)
        timed = (steps, whole, decodes)
        cells = [percentiles(one)[p] for one in timed for p in ("p50", "p95")]
        rows.append((f"{count} threads", *cells))
    titles = ("ms per latent", "step p50", "p95", "recomputed p50", "p95", "decode p50", "p95")
    table(titles, rows)
    size = f"{parts.width}x{parts.height}, F = {parts.streaming.latents}, {device.type}"
    print(f"{checkpoint.name}: {size}; a latent lasts 250 ms")
    return {"model": checkpoint.name, "device": device.type, "threads": figures}


def live_speed(model: Path, seconds: float, plot: str | None) -> dict[str, Any]:
    """Headless live runs with random keys: steps started just in time against steps started as
    early as they can."""
    from pipeline.commands.bench_live import PARTS, columns, draw, run_live
    from pipeline.stage.figures import OVERHEAD

    runs = {}
    for name, just_in_time in (("just in time", True), ("free running", False)):
        print(f"{name}: {seconds:g} s of stream ...", flush=True)
        runs[name] = in_a_process(run_live, model, seconds, just_in_time)
    ours, free = runs["just in time"], runs["free running"]
    rows = [
        (title, p50, p95, *other[1:])
        for (title, p50, p95), other in zip(columns(ours), columns(free))
    ]
    table(("ms", "just in time p50", "p95", "free running p50", "p95"), rows)
    print(
        f"system overhead ({' + '.join(OVERHEAD)}), ms: {ours['overhead_ms']} (free running {free['overhead_ms']})"
    )
    for key in (
        "fps_shown",
        "frames",
        "stalls",
        "late_slots",
        "longest_gap_ms",
        "first_frame_seconds",
    ):
        print(f"{key}: {ours[key]} (free running {free[key]})")
    print(
        f"reset to first frame, ms: {ours['reset_to_frame_ms']} (free running {free['reset_to_frame_ms']})"
    )
    print(
        "CPU % of one core: "
        + ", ".join(f"{name} {used}" for name, used in ours["cpu_percent"].items())
    )
    print(
        "peak memory MB: "
        + ", ".join(f"{name} {used:.0f}" for name, used in ours["peak_rss_mb"].items())
    )
    if plot:
        draw(runs, Path(plot))
    return {"model": str(model), "parts": PARTS, **runs}


def load_speed(folder: Path) -> dict[str, Any]:
    """Time and peak memory of loading a full-shape transformer in two-byte storage (random weights,
    page cache warm).

    Baseline: the plain way, a float32 module filled from a state dict. Both in processes of their
    own."""
    if not folder.is_dir():
        raise UserError(f"--folder {folder}: expected an existing folder")
    free, memory = shutil.disk_usage(folder).free, available_memory()
    for what, has, needs in (("disk", free, LOAD_ROOM), ("memory", memory, LOAD_ROOM)):
        if has < needs:
            reason = (
                f"{what} has {has / GIGABYTE:.1f} GB free, {needs / GIGABYTE:.1f} GB are needed"
            )
            print(f"skipped: {reason}")
            return {"skipped": reason}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        size = in_a_process(write_full_shape, place)
        figures: dict[str, Any] = {
            "gigabytes": size / GIGABYTE,
            "ours": in_a_process(load_ours, place),
        }
        if available_memory() > PLAIN_ROOM:
            figures["plain"] = in_a_process(load_plain, place)
        else:
            left = available_memory() / GIGABYTE
            print(
                f"baseline skipped: memory has {left:.1f} GB free, {PLAIN_ROOM / GIGABYTE:.0f} GB are needed"
            )
    names = {
        "ours": "memory-mapped, straight to bfloat16",
        "plain": "float32 module, state dict, then bfloat16",
    }
    rows = [(names[key], *figures[key].values()) for key in names if key in figures]
    table((f"{figures['gigabytes']:.2f} GB on disk", "seconds", "peak GB", "of it loaded GB"), rows)
    return figures


def write_full_shape(place: str) -> int:
    """Write the published transformer's shapes with random two-byte weights; returns the file's
    bytes."""
    import torch

    from models.checkpoint import empty_transformer, save_tensors
    from models.transformer import TransformerConfig

    config = TransformerConfig(control_start_layer=15)
    tensors = {
        name: torch.empty(tensor.shape, dtype=torch.bfloat16).uniform_(-0.02, 0.02)
        for name, tensor in empty_transformer(config).state_dict().items()
    }
    (Path(place) / "config.json").write_text(config.to_json())
    file = Path(place) / "diffusion_pytorch_model.safetensors"
    save_tensors(file, tensors)
    return file.stat().st_size


def load_ours(place: str) -> dict[str, float]:
    """Load as every process of the project does."""
    import torch

    from models.checkpoint import read_transformer

    before, start = peak_memory(), time.perf_counter()
    model = read_transformer(Path(place), torch.device("cpu"), torch.bfloat16)
    return _loaded(start, before, model.proj_out.weight.dtype == torch.bfloat16)


def load_plain(place: str) -> dict[str, float]:
    """Load the way a first draft would."""
    import torch
    from safetensors.torch import load_file

    from models.checkpoint import read_transformer_config
    from models.transformer import Transformer

    before, start = peak_memory(), time.perf_counter()
    model = Transformer(read_transformer_config(Path(place)))
    model.load_state_dict(load_file(Path(place) / "diffusion_pytorch_model.safetensors"))
    model.to(torch.bfloat16)
    return _loaded(start, before, model.proj_out.weight.dtype == torch.bfloat16)


def _loaded(start: float, before: float, right: bool) -> dict[str, float]:
    assert right, "the loaded model has another number format"
    peak = peak_memory()
    return {"seconds": time.perf_counter() - start, "peak_gb": peak, "loaded_gb": peak - before}


def in_a_process(work: Callable[..., Any], *arguments: object) -> Any:
    """Run ``work`` in a fresh process, so that its peak memory and its cluster are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def peak_memory() -> float:
    """Largest resident size of this process so far in GB, mapped file pages included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIGABYTE


def available_memory() -> float:
    """Bytes that can be had without swapping."""
    return float(psutil.virtual_memory().available)


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns; numbers to three digits."""
    cells = [list(titles)] + [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    for row in cells:
        print(
            "  ".join(
                [
                    row[0].ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:])),
                ]
            )
        )


def samples(work: Callable[[], object], times: int, warm: int = 2) -> list[float]:
    """Milliseconds of each of ``times`` runs after ``warm`` runs that do not count."""
    for _ in range(warm):
        work()
    milliseconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        milliseconds.append(1000 * (time.perf_counter() - start))
    return milliseconds


def stopwatch(work: Callable[[], object], times: int) -> float:
    """Median milliseconds of ``times`` runs."""
    return statistics.median(samples(work, times, warm=1))


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """p50 and p95."""
    cuts = statistics.quantiles(milliseconds, n=20)
    return {"p50": round(statistics.median(milliseconds), 2), "p95": round(cuts[-1], 2)}


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "-" if value is None else str(value)


def _threads(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 1024 for part in parts):
        raise UserError(f"--threads: expected numbers such as 1,2, got {text[:40]!r}")
    return [int(part) for part in parts]

"""The published shapes through the whole line on a processor: `python -m tests.full_size --folder DIR`.

Writes a stage-4 and a stage-3 folder of random bfloat16 weights (published transformer, full and tiny
autoencoder, a text encoder of the published class with two layers), then runs the parts that are
asked for, each in processes of its own, and prints a line for each: seconds, peak memory, largest
difference. All of it takes an hour on two cores, so it is no part of plain pytest; --blocks, --rows
and --columns (of latents) make it smaller.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from configs.choice import WeightChoice
from configs.load import child_environment
from models.checkpoint import Checkpoint
from models.device import use_threads
from models.noise import SeededNoise
from models.parallel import SequenceGroup
from models.saving import save_tensors
from models.tae import TinyVAE, TinyVAEConfig
from models.text import expected_shapes
from models.transformer import Transformer, TransformerConfig
from models.vae import FullVAE
from models.vae_config import FullVAEConfig
from models.world import World, WorldParts
from pipeline.bench.processes import in_a_process, peak_memory
from pipeline.bench.shapes import fill
from tests.ranks import run_ranks
from tests.tiny_checkpoint import full_vae_json, put_network, spiece_model

CPU, BF16 = torch.device("cpu"), torch.bfloat16
WORDS = "a red white car drives on through desert snow city road at night noon sunset"
T5 = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64}
PROMPT = "a red car drives on a desert road at noon"
LIVE_SECONDS, SHOWN_SECONDS = 1500.0, 60.0  # loading included; from the first frame on
RANK_SECONDS = 1800.0  # of all that ranks do at once
LATENTS = 3  # that a decoder is tried with


@dataclass(frozen=True)
class Size:
    """Where the folders are and how much of the published shape is in them."""

    folder: Path
    blocks: int = 30
    rows: int = 60
    columns: int = 90

    @property
    def stage4(self) -> Path:
        return self.folder / "stage4"

    @property
    def taecvx(self) -> Path:
        return self.folder / "taecvx.safetensors"

    @property
    def name(self) -> str:
        return f"{self.blocks} blocks, latents of {self.rows} x {self.columns}"


def write(size: Size) -> dict[str, Any]:
    """The folders; what they weigh."""
    torch.manual_seed(0)
    config = TransformerConfig(
        num_layers=size.blocks,
        control_start_layer=size.blocks // 2,
        control_end_layer=size.blocks,
        sample_height=size.rows,
        sample_width=size.columns,
    )
    with torch.device("meta"):
        transformer = Transformer(config)
        vae = FullVAE(FullVAEConfig(sample_height=8 * size.rows, sample_width=8 * size.columns))
        tiny = TinyVAE(TinyVAEConfig())
    shared = size.folder / "stage3"
    parts: list[tuple[Path, nn.Module, str]] = [
        (size.stage4 / "transformer", transformer, config.to_json()),
        (shared / "transformer", transformer, config.to_json()),
        (shared / "vae", vae, full_vae_json(vae.config)),
    ]
    for place, module, text in parts:
        put_network(place, text, _random(module))
    save_tensors(size.taecvx, _random(tiny))
    _write_text(shared)
    controls = {"control_embeddings": torch.randn(9, 768), "null_control": torch.zeros(768)}
    save_tensors(size.stage4 / "control_embeddings.safetensors", controls)
    weight = sum(file.stat().st_size for file in size.folder.rglob("*") if file.is_file())
    return {"gigabytes": weight / 1e9}


def _random(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: fill(name, torch.empty(tensor.shape, dtype=BF16))
        for name, tensor in module.state_dict().items()
    }


def _write_text(folder: Path) -> None:
    """A T5 of the published widths with two layers, and a tokenizer of a few words."""
    config = {**T5, "num_layers": 2, "feed_forward_proj": "gated-gelu"}
    (folder / "text_encoder").mkdir(exist_ok=True)
    (folder / "tokenizer").mkdir(exist_ok=True)
    (folder / "text_encoder" / "config.json").write_text(json.dumps(config))
    tensors = {
        name: torch.empty(shape, dtype=BF16).normal_(std=0.02)
        for name, shape in expected_shapes(config).items()
    }
    save_tensors(folder / "text_encoder" / "model.safetensors", tensors)
    (folder / "tokenizer" / "spiece.model").write_bytes(spiece_model([PROMPT, WORDS] * 20))


def load(size: Size) -> dict[str, Any]:
    """Open and load the transformer: seconds and peak memory against the file's size."""
    before, start = peak_memory(), time.perf_counter()
    checkpoint = Checkpoint.open(size.stage4)
    opened = time.perf_counter() - start
    checkpoint.transformer(CPU, BF16)
    file = next((size.stage4 / "transformer").glob("*.safetensors")).stat().st_size / 1e6
    peak = peak_memory() - before
    return {
        "open_s": opened,
        "load_s": time.perf_counter() - start - opened,
        "file_mb": file,
        "peak_mb": peak,
        "peak_over_file": peak / file,
    }


def _world(size: Size, group: SequenceGroup | None = None) -> World:
    checkpoint = Checkpoint.open(size.stage4)
    model = checkpoint.transformer(CPU, BF16)
    parts = WorldParts(model, checkpoint.control_embeddings(), checkpoint.streaming)
    world = World(parts, group=group)
    text = torch.randn(1, 226, 4096, generator=torch.Generator().manual_seed(1))
    world.reset(7, text)
    return world


def step(size: Size) -> dict[str, Any]:
    """One outer step of five latents on all threads; then on from a snapshot: the same bytes."""
    use_threads()
    world = _world(size)
    start = time.perf_counter()
    first = world.step(["DL"]).latents
    seconds, state = time.perf_counter() - start, world.state()
    after = world.step(["DR"]).latents
    world.load_state(state)
    again = world.step(["DR"]).latents
    return {
        "step_s": seconds,
        "finite": bool(torch.isfinite(first).all()),
        "continued_equal": torch.equal(after, again),
        "peak_mb": peak_memory(),
    }


def _rank_step(group: SequenceGroup, size: Size) -> tuple[Tensor, float, float]:
    world = _world(size, group)
    start = time.perf_counter()
    latents = world.step(["DL"]).latents
    return latents.float(), time.perf_counter() - start, peak_memory()


def ranks(size: Size) -> dict[str, Any]:
    """Two gloo ranks of a thread each against one: relative error, seconds, peak memory each."""
    ((expected, alone, one_peak),) = run_ranks(1, _rank_step, size, seconds=RANK_SECONDS)
    results = run_ranks(2, _rank_step, size, seconds=RANK_SECONDS)
    error = max(float((got - expected).norm() / expected.norm()) for got, _, _ in results)
    return {
        "relative_error": error,
        "one_s": alone,
        "two_s": max(seconds for _, seconds, _ in results),
        "one_peak_mb": one_peak,
        "two_peak_mb": max(peak for _, _, peak in results),
    }


def _latents(size: Size) -> Tensor:
    return SeededNoise(7, (16, size.rows, size.columns)).fresh(0, LATENTS).to(BF16)


def _decode(group: SequenceGroup, size: Size, tiny: bool) -> tuple[Tensor, float, float]:
    vae = ("tiny", size.taecvx) if tiny else None
    autoencoder = Checkpoint.open(WeightChoice(size.stage4, vae=vae)).autoencoder(CPU, BF16)
    start, stream = time.perf_counter(), autoencoder.stream(group)
    frames = [torch.from_numpy(stream.push(latent[None])) for latent in _latents(size)]
    return torch.cat(frames), (time.perf_counter() - start) / LATENTS, peak_memory()


def _shards(size: Size, tiny: bool) -> dict[str, Any]:
    ((whole, alone, one_peak),) = run_ranks(1, _decode, size, tiny, seconds=RANK_SECONDS)
    results = run_ranks(3, _decode, size, tiny, seconds=RANK_SECONDS)
    joined = torch.cat([frames for frames, _, _ in results], 2)
    difference = (joined.int() - whole.int()).abs()
    return {
        "frames": list(whole.shape),
        "one_s_a_latent": alone,
        "three_s_a_latent": max(seconds for _, seconds, _ in results),
        "largest_difference": int(difference.max()),
        "mean_difference": float(difference.float().mean()),
        "one_peak_mb": one_peak,
        "three_peak_mb": max(peak for _, _, peak in results),
    }


def decoder(size: Size) -> dict[str, Any]:
    """The full decoder on three latents, one worker against three shards, in levels of 255."""
    return _shards(size, False)


def taecvx(size: Size) -> dict[str, Any]:
    """The tiny decoder, the same."""
    return _shards(size, True)


def tiles(size: Size) -> dict[str, Any]:
    """The full decoder in tiles: seconds, peak memory."""
    use_threads()
    vae = Checkpoint.open(size.stage4).autoencoder(CPU, BF16)
    assert isinstance(vae, FullVAE)
    latents = _latents(size)[None] / vae.scaling_factor
    start = time.perf_counter()
    video = vae.decode(latents, tiled=True)
    finite = bool(torch.isfinite(video).all())
    seconds = (time.perf_counter() - start) / LATENTS
    return {"s_a_latent": seconds, "finite": finite, "peak_mb": peak_memory()}


def live(size: Size) -> dict[str, Any]:
    """A headless minute by two ranks and two shards with the tiny decoder, recorded;
    a rank is killed as soon as the first frames are in the recording's control log."""
    video, summary = size.folder / "drive.mp4", size.folder / "summary.json"
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "run",
        "--headless",
        "--duration",
        str(SHOWN_SECONDS),
    ]
    command += ["--model-path", str(size.stage4), "--vae", "tiny", str(size.taecvx)]
    command += [
        "--prompt",
        PROMPT,
        "--record",
        str(video),
        "--summary",
        str(summary),
        "--port",
        "0",
    ]
    start, deadline = time.perf_counter(), time.monotonic() + LIVE_SECONDS
    environment = child_environment(NUM_GPUS_DIT="2", NUM_GPUS_VAE="2")
    with (size.folder / "live.log").open("w") as log:
        run = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            killed = _kill_a_rank(run, size.folder, deadline)
            code = run.wait(timeout=max(1.0, deadline - time.monotonic()))
        finally:
            run.terminate()
    if code:
        raise RuntimeError((size.folder / "live.log").read_text()[-1500:])
    figures: dict[str, Any] = json.loads(summary.read_text())
    told = {"wall_s": time.perf_counter() - start, "killed": killed}
    return {**told, "video_bytes": video.stat().st_size, **figures}


def _kill_a_rank(run: "subprocess.Popen[bytes]", folder: Path, deadline: float) -> bool:
    """Wait for the first frames, then kill the run's first DiT worker; False when it ended before."""
    while run.poll() is None and time.monotonic() < deadline:
        logs = list(folder.glob("*drive*.jsonl*"))
        if any(b"\n" in log.read_bytes()[1:] for log in logs):
            break
        time.sleep(0.1)
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, which its exit code tells
        for child in psutil.Process(run.pid).children(recursive=True):
            if "DitWorker" in " ".join(child.cmdline()):
                child.kill()
                return True
    return False


PARTS: dict[str, Callable[[Size], dict[str, Any]]] = {
    part.__name__: part for part in (write, load, step, ranks, decoder, tiles, taecvx, live)
}


def main() -> int:
    """Run the parts asked for; exit code 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.full_size", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--folder", type=Path, required=True)
    for name in ("blocks", "rows", "columns"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Size, name))
    args = parser.parse_args()
    size = Size(args.folder, args.blocks, args.rows, args.columns)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown parts {sorted(unknown)}; expected some of {', '.join(PARTS)}")
    failed = 0
    print(size.name)
    for part in args.parts or PARTS:
        try:
            # parts that start ranks do so from here: a pool's process may have no children
            alone = part in ("ranks", "decoder", "taecvx", "live")
            figures = PARTS[part](size) if alone else in_a_process(PARTS[part], size)
            shown = ", ".join(f"{key} {_short(value)}" for key, value in figures.items())
        except Exception as error:  # the other parts still tell what they have to
            shown, failed = f"FAILED: {type(error).__name__}: {error}", failed + 1
        print(f"{part}: {shown}", flush=True)
    return 1 if failed else 0


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())

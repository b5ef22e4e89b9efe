"""What a run would cost on devices, as a person reads it: every split, the best one, and what was
assumed."""

from pathlib import Path
from typing import Final

import torch

from configs.schema import StreamSettings
from models.checkpoint import Checkpoint
from models.device import has_bfloat16, pick_decoder_dtype, pick_device
from models.stages import check_stage
from models.tae import TinyVAEConfig
from models.transformer import TransformerConfig
from models.vae_config import FullVAEConfig
from pipeline.bench.table import table
from pipeline.calibration import NOBODY, cpu_rank, cpu_talk, cpu_worker
from pipeline.prediction import SHEETS, Model, Prediction, Shares, best, predict

# as `pipeline.prediction.best` chooses
BEST: Final = "the most FPS up to 16, of those the least key ms, of those the fewest devices"


def report(path: str | None, vae: str, name: str, devices: int) -> None:
    """Print the prediction for a weight folder (None: the published shapes with decoder `vae`) on
    up to `devices` devices called `name`, a sheet's or "cpu"."""
    model, title = _model(path, vae, name == "cpu")
    if name == "cpu":
        talk = cpu_talk() if devices > 1 else NOBODY
        rank = cpu_rank(model, talk)
        shown = predict(model, rank, lambda workers: cpu_worker(model, workers, talk), devices)
        assumed = (
            f"measured now on {rank.name}: {rank.linear / 1e9:.0f} Gop/s in linear maps, "
            f"{rank.attention / 1e9:.0f} in attention, {rank.bandwidth / 1e9:.1f} GB/s"
        )
        if devices > 1:
            assumed += (
                f"; {talk.link / 1e9:.2f} GB/s and {1e6 * talk.exchange:.0f} us between ranks"
            )
    else:
        device = Shares().of(SHEETS[name])
        shown = predict(model, device, lambda workers: device, devices)
        assumed = f"{device.name}; {Shares()}; nothing of it measured"
    print(f"{title}, {devices} x {name}: predicted")
    _print(shown)
    print(_advice(best(shown), shown))
    print(f"assumed: {assumed}; plain path (no graph, no compilation)")


def _model(path: str | None, vae: str, cpu: bool) -> tuple[Model, str]:
    """What is planned for, and its name; on a CPU in the number formats that are served there."""
    config, settings = TransformerConfig(control_start_layer=15), StreamSettings()
    decoder: FullVAEConfig | TinyVAEConfig = FullVAEConfig() if vae == "full" else TinyVAEConfig()
    name, here = f"published shapes, {vae} decoder", pick_device("cpu")
    served = torch.bfloat16 if has_bfloat16(here) else torch.float32
    if path is not None:
        check_stage(Path(path), "stage4")
        checkpoint = Checkpoint.open(Path(path))
        config, settings = checkpoint.transformer_config, checkpoint.streaming
        decoder, name = checkpoint.vae_config, checkpoint.name
        served = checkpoint.number_format(here)
    tiny = isinstance(decoder, TinyVAEConfig)
    decoded = pick_decoder_dtype("auto", here) if tiny else served
    sizes = (served.itemsize, decoded.itemsize) if cpu else (2, 2)
    return Model(config, settings, decoder, *sizes), name


def _print(predictions: list[Prediction]) -> None:
    titles = ("DiT + VAE", "step ms", "decode ms", "FPS", "key ms", "GB DiT", "GB VAE", "worlds")
    rows = [
        (
            p.split + ("" if p.fits else " (too little memory)"),
            1000 * p.step,
            1000 * p.decode,
            p.fps,
            1000 * p.delay,
            p.dit_memory / 1e9,
            p.vae_memory / 1e9,
            p.worlds,
        )
        for p in predictions
    ]
    table(titles, rows)


def _advice(chosen: Prediction | None, predictions: list[Prediction]) -> str:
    if chosen is None:
        return "best: none; this does not fit into the memory of any split"
    many = max(predictions, key=lambda p: p.worlds)
    live = "" if chosen.fps >= 16 else ", slower than 16 frames a second"
    more = (
        f"\nmost worlds in real time: {many.split}, {many.worlds} of them"
        if many.worlds > 1
        else ""
    )
    return f"best for one world: {chosen.split}{live} ({BEST}){more}"

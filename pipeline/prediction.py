"""What a run would cost on a machine that one does not have: predicted from the cost model and a
device's data sheet.

Nothing here has been seen on a GPU: data sheets say peaks, and the shares below are assumptions
that `python -m pipeline bench gpu` replaces by measurements.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from configs.geometry import FPS, FRAMES_PER_LATENT
from configs.schema import StreamSettings
from models.attention import possible_degrees
from models.cost import Cost, Window, decoder_cost, step_cost, tiny_decoder_cost
from models.tae import TinyVAEConfig
from models.transformer import TransformerConfig
from models.vae_config import FullVAEConfig

TERA: Final = 1e12
GIGA: Final = 1e9
LATENT_SECONDS: Final = FRAMES_PER_LATENT / FPS
BUSY: Final = 0.8  # of the time of a group that worlds may fill
RUNTIME: Final = 1.5 * GIGA  # context, library workspaces, fragments of a device's memory


@dataclass(frozen=True)
class Device:
    """What one device (or CPU process) attains. linear, attention, convolution: operations a
    second; bandwidth, link: bytes a second; launch, exchange: seconds of one kernel's start and of
    one collective; memory: bytes. queued: kernels are started ahead, so that only the longer of
    starting and computing counts."""

    name: str
    linear: float
    attention: float
    convolution: float
    bandwidth: float
    launch: float
    link: float
    exchange: float
    memory: float
    queued: bool = True

    def seconds(self, cost: Cost) -> float:
        """How long one rank works on `cost`, waiting for its peers included."""
        products = (
            cost.linear / self.linear
            + cost.attention / self.attention
            + cost.convolution / self.convolution
        )
        work, starts = products + cost.traffic / self.bandwidth, cost.kernels * self.launch
        talk = cost.exchanges * self.exchange + cost.sent / self.link
        return (max(work, starts) if self.queued else work + starts) + talk


@dataclass(frozen=True)
class Sheet:
    """A data sheet: dense bfloat16 tera-operations a second, gigabytes a second of memory and of
    one direction of the link to other devices, gigabytes of memory."""

    name: str
    peak: float
    bandwidth: float
    link: float
    memory: float


SHEETS: Final = {
    "h100": Sheet("H100 SXM, NVLink", 989, 3350, 450, 80),
    "h200": Sheet("H200 SXM, NVLink", 989, 4800, 450, 141),
    "a100": Sheet("A100 SXM 80 GB, NVLink", 312, 2039, 300, 80),
    "l40s": Sheet("L40S, PCIe 4", 362, 864, 32, 48),
    "4090": Sheet("RTX 4090, PCIe 4", 165, 1008, 32, 24),
}


@dataclass(frozen=True)
class Shares:
    """Assumed shares of what a data sheet says, and assumed seconds of a launch and a collective."""

    linear: float = 0.6
    attention: float = 0.5
    convolution: float = 0.35
    bandwidth: float = 0.75
    link: float = 0.6
    launch: float = 5e-6
    exchange: float = 3e-5

    def of(self, sheet: Sheet) -> Device:
        """The device as it is assumed to be."""
        peak = sheet.peak * TERA
        return Device(
            name=sheet.name,
            linear=self.linear * peak,
            attention=self.attention * peak,
            convolution=self.convolution * peak,
            bandwidth=self.bandwidth * sheet.bandwidth * GIGA,
            launch=self.launch,
            link=self.link * sheet.link * GIGA,
            exchange=self.exchange,
            memory=sheet.memory * GIGA,
        )

    def __str__(self) -> str:
        return (
            f"{self.linear:.0%} of the bfloat16 peak in linear maps, {self.attention:.0%} in attention, "
            f"{self.convolution:.0%} in convolutions; {self.bandwidth:.0%} of memory bandwidth; "
            f"{self.link:.0%} of the link; {1e6 * self.launch:.0f} us a launch, "
            f"{1e6 * self.exchange:.0f} us a collective"
        )


@dataclass(frozen=True)
class Model:
    """What is to run: configs and number size in bytes of transformer and decoder."""

    transformer: TransformerConfig
    settings: StreamSettings
    decoder: FullVAEConfig | TinyVAEConfig
    itemsize: int = 2
    decoder_itemsize: int = 2

    def step(self, ranks: int) -> Cost:
        """One outer step of `ranks` ranks."""
        window = Window.of(self.transformer, self.settings, itemsize=self.itemsize)
        return step_cost(self.transformer, self.settings, window, ranks)

    def decode(self, ranks: int) -> Cost:
        """The decode of one latent by `ranks` workers."""
        size = (self.transformer.sample_height, self.transformer.sample_width)
        if isinstance(self.decoder, FullVAEConfig):
            return decoder_cost(self.decoder, *size, ranks, self.decoder_itemsize)
        return tiny_decoder_cost(self.decoder, *size, ranks, self.decoder_itemsize)

    def splits(self, devices: int) -> Iterator[tuple[int, int]]:
        """Every (DiT ranks, VAE workers) for that many devices; (1, 0) is both on one device."""
        config = self.transformer
        tokens = (config.sample_height // config.patch_size) * (
            config.sample_width // config.patch_size
        )
        yield 1, 0
        for dit in possible_degrees(config.num_attention_heads, tokens):
            for vae in range(1, min(devices - dit, config.sample_width) + 1):
                yield dit, vae


@dataclass(frozen=True)
class Prediction:
    """One split of devices. step, decode: seconds of an outer step and of one latent; fps: frames a
    second that one world could have; delay: seconds from a key to its first frame; dit_memory,
    vae_memory: bytes a device; worlds: at 16 frames a second on all devices together."""

    dit: int
    vae: int
    step: float
    decode: float
    fps: float
    delay: float
    dit_memory: float
    vae_memory: float
    worlds: int
    fits: bool

    @property
    def split(self) -> str:
        """As a person reads it."""
        return f"{self.dit} + {self.vae}" if self.vae else "one for both"


def predict(
    model: Model, rank: Device, worker: Callable[[int], Device], devices: int
) -> list[Prediction]:
    """Every split of up to `devices` devices. rank: a DiT rank's device; worker: one VAE worker's of
    so many."""
    return [
        _predict(model, (rank, worker(max(1, vae))), devices, dit, vae)
        for dit, vae in model.splits(devices)
    ]


def _predict(
    model: Model, places: tuple[Device, Device], devices: int, dit: int, vae: int
) -> Prediction:
    step_work, decode_work = model.step(dit), model.decode(max(1, vae))
    step, decode = places[0].seconds(step_work), places[1].seconds(decode_work)
    window = model.settings.window_size
    busiest = max(step, window * decode) if vae else step + window * decode
    lasts = window * LATENT_SECONDS
    dit_memory, vae_memory = step_work.memory + RUNTIME, decode_work.memory + RUNTIME
    if not vae:
        dit_memory = vae_memory = step_work.memory + decode_work.memory + RUNTIME
    room = places[0].memory - max(dit_memory, vae_memory)
    further = room // decode_work.state  # worlds that find room for their decoder's memory
    worlds = min(int(BUSY * lasts / busiest), int(1 + further))
    unsteered = (model.settings.noise_groups - model.settings.late_labels) * window
    period = max(LATENT_SECONDS, busiest / window)  # a latent of a world that keeps up or not
    return Prediction(
        dit=dit,
        vae=vae,
        step=step,
        decode=decode,
        fps=FRAMES_PER_LATENT * window / busiest,
        delay=unsteered * period + window * period / 2 + step + decode,
        dit_memory=dit_memory,
        vae_memory=vae_memory,
        worlds=max(0, worlds) * (devices // (dit + vae)),
        fits=room >= 0,
    )


def best(predictions: list[Prediction]) -> Prediction | None:
    """The split that shows one world best: in real time if any is, then with the least delay, then
    on the fewest devices. None: nothing fits."""
    fitting = [p for p in predictions if p.fits]
    return min(
        fitting,
        key=lambda p: (-min(p.fps, FPS), round(p.delay, 2), p.dit + p.vae),
        default=None,
    )

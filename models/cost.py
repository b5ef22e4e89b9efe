"""What a step, a decode and a prompt cost: operations, bytes, exchanges between ranks. Pure
arithmetic on configs; nothing is loaded or run.

Legend: F latents in the window, S tokens of a latent, N text tokens, n tokens of the rank that has
most, L blocks, D width, H heads, T frames of a call, h x w latent size. A multiplication and an
addition are two operations, as PyTorch's counter has it; element-wise work counts as bytes instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from configs.schema import StreamSettings
from models.tae import DECODER_STAGES, GROWTHS, TinyVAEConfig
from models.transformer import TransformerConfig
from models.vae import TIME_LEVELS
from models.vae_config import FullVAEConfig

# Passes over a rank's tokens [n, D] by everything that is no matrix product, reads and writes
# counted: norms, modulation, joining text and video, head norms, GELU of 4 D, residuals.
BLOCK_PASSES, CONTROL_PASSES = 46, 17
BLOCK_KERNELS, CONTROL_KERNELS, CALL_KERNELS = 21, 16, 20
NORM_PASSES, CONV_PASSES = 10, 4  # of a feature map: norm, scale, shift, SiLU; joining the past
NORM_KERNELS, CONV_KERNELS = 6, 3


@dataclass(frozen=True)
class Cost:
    """One rank's share of some work.

    linear, attention, convolution: operations. traffic: bytes that element-wise kernels read and
    write. kernels: of all kinds. weights, state: bytes held for good. activations: bytes that are
    alive at once, at most, without a library's own workspace. exchanges, sent: collectives, and
    bytes that leave the rank in them.
    """

    linear: float = 0
    attention: float = 0
    convolution: float = 0
    traffic: float = 0
    kernels: int = 0
    weights: int = 0
    state: int = 0
    activations: int = 0
    exchanges: int = 0
    sent: int = 0

    @property
    def operations(self) -> float:
        """Of all matrix products."""
        return self.linear + self.attention + self.convolution

    @property
    def memory(self) -> int:
        """Bytes a rank needs."""
        return self.weights + self.state + self.activations

    def times(self, calls: int) -> "Cost":
        """The same work again and again: what is held is held once."""
        return Cost(
            linear=self.linear * calls,
            attention=self.attention * calls,
            convolution=self.convolution * calls,
            traffic=self.traffic * calls,
            kernels=self.kernels * calls,
            weights=self.weights,
            state=self.state,
            activations=self.activations,
            exchanges=self.exchanges * calls,
            sent=self.sent * calls,
        )


@dataclass(frozen=True)
class Window:
    """What a transformer sees in one call. frames F of height x width latents, `texts` tokens,
    `batch` prompts (2 with guidance); `itemsize` bytes a number."""

    frames: int
    height: int
    width: int
    texts: int
    batch: int = 1
    itemsize: int = 2

    @staticmethod
    def of(
        config: TransformerConfig, settings: StreamSettings, *, batch: int = 1, itemsize: int = 2
    ) -> "Window":
        """The window that weights stream with at their own size."""
        return Window(
            frames=settings.latents,
            height=config.sample_height,
            width=config.sample_width,
            texts=config.max_text_seq_length,
            batch=batch,
            itemsize=itemsize,
        )

    def tokens(self, config: TransformerConfig) -> int:
        """S, tokens of one latent."""
        return (self.height // config.patch_size) * (self.width // config.patch_size)


def share(n: int, ranks: int) -> int:
    """The largest of `ranks` even shares of n."""
    return -(-n // ranks)


def call_cost(config: TransformerConfig, window: Window, ranks: int = 1) -> Cost:
    """One model call of `Transformer.denoise` on the rank with the largest share."""
    wide, layers, batch = config.width, config.num_layers, window.batch
    controls = config.control_end_layer - config.control_start_layer
    tokens = window.tokens(config)
    stripe, texts = share(tokens, ranks), share(window.texts, ranks)
    video, total = window.frames * stripe, window.texts + window.frames * tokens
    mine = texts + video
    patch = config.patch_size**2 * (config.in_channels + config.out_channels)
    heads = config.num_attention_heads
    linear = (
        layers * 24 * mine * wide**2 + controls * 2 * video * wide**2 + 2 * video * patch * wide
    )
    control = 2 * video * window.frames * (wide + heads * wide)
    away = ranks - 1
    joined = 3 * mine * wide * away // ranks  # heads of q, k, v that are others'
    parted = (total - mine) * wide // ranks if ranks > 1 else 0  # others' tokens of own heads
    last = away * video * config.patch_size**2 * config.out_channels
    passes = BLOCK_PASSES * layers * mine + CONTROL_PASSES * controls * video
    return Cost(
        linear=batch * float(linear + controls * control),
        attention=batch * float(layers * 4 * total**2 * wide / ranks),
        traffic=batch * float(passes * wide * window.itemsize),
        kernels=layers * BLOCK_KERNELS + controls * CONTROL_KERNELS + CALL_KERNELS,
        weights=transformer_parameters(config) * window.itemsize,
        state=constants(config, window) * window.itemsize,
        activations=batch * _call_activations(config, window, mine, video),
        exchanges=(2 * layers + 1) * (ranks > 1),
        sent=batch * (layers * (joined + parted) + last) * window.itemsize,
    )


def _call_activations(config: TransformerConfig, window: Window, mine: int, video: int) -> int:
    """Most that is alive at once: the residual stream before and after attention, what went into
    attention and out of it, the normalised copy, and the feed-forward's 4 D values before and after
    its GELU."""
    return (2 * video + (3 + 4 + 4) * mine) * config.width * window.itemsize


def step_cost(
    config: TransformerConfig, settings: StreamSettings, window: Window, ranks: int = 1
) -> Cost:
    """One outer step: K inner steps, each with one more call where labels guide too."""
    calls = settings.inner_steps
    if settings.control_guidance == 1:
        return call_cost(config, window, ranks).times(calls)
    return call_cost(config, window, ranks).times(calls + calls)


def transformer_parameters(config: TransformerConfig) -> int:
    """Numbers in the transformer's weights (docs/reference.md section 1.3)."""
    wide, time, head = config.width, config.time_embed_dim, config.attention_head_dim
    norm = 2 * wide if config.norm_elementwise_affine else 0
    bias = wide if config.attention_bias else 0

    def adaptive(chunks: int) -> int:
        return (time + 1) * chunks * wide + norm

    attention = 4 * wide**2 + 3 * bias + wide + 4 * head
    block = 2 * adaptive(6) + attention + 8 * wide**2 + 5 * wide
    control = adaptive(6) + attention
    vectors, patch = config.control_dim, config.patch_size**2
    embedding = (vectors + 1) * (vectors + wide) + (wide + 1) * wide
    ends = (patch * config.in_channels + 1) * wide + (config.text_embed_dim + 1) * wide
    ends += (wide + 1) * time + (time + 1) * time + norm + adaptive(2)
    ends += (wide + 1) * patch * config.out_channels
    controls = config.control_end_layer - config.control_start_layer
    return config.num_layers * block + controls * control + embedding + ends


def constants(config: TransformerConfig, window: Window) -> int:
    """Numbers that a stream computes once per row of timesteps and per prompt: modulation, keys and
    values of ten control vectors, positions, text."""
    wide, controls = config.width, config.control_end_layer - config.control_start_layer
    modulation = (2 * config.num_layers + controls) * 3 * (window.frames + 1) * wide
    vocabulary = controls * 10 * wide * (1 + config.num_attention_heads)
    return modulation + vocabulary + (window.frames * window.tokens(config) + window.texts) * wide


# ---- the full decoder


@dataclass(frozen=True)
class _Map:
    """A feature map [c, T, height, width] and what is done to it: `kind` norm, conv (3 x 3 x 3), up
    (3 x 3 on a doubled map) or point (1 x 1 x 1), `inputs` channels to `outputs`."""

    kind: str
    inputs: int
    outputs: int
    frames: int
    scale: int

    @property
    def pixels(self) -> int:
        """Per latent pixel of the call's map."""
        return self.frames * self.scale**2


def _resnet(inputs: int, outputs: int, frames: int, scale: int) -> Iterator[_Map]:
    yield _Map("norm", inputs, inputs, frames, scale)
    yield _Map("conv", inputs, outputs, frames, scale)
    yield _Map("norm", outputs, outputs, frames, scale)
    yield _Map("conv", outputs, outputs, frames, scale)
    if inputs != outputs:
        yield _Map("point", inputs, outputs, frames, scale)


def _decoder_maps(config: FullVAEConfig) -> Iterator[_Map]:
    """Every norm and convolution of one latent's decode, in order."""
    widths = config.block_out_channels[::-1]
    frames, scale = 1, 1
    yield _Map("conv", config.latent_channels, widths[0], frames, scale)
    for _ in range(2):
        yield from _resnet(widths[0], widths[0], frames, scale)
    before = widths[0]
    for level, after in enumerate(widths):
        for layer in range(config.layers_per_block + 1):
            yield from _resnet(after if layer else before, after, frames, scale)
        before = after
        if level < len(widths) - 1:
            frames, scale = frames * (2 if level < TIME_LEVELS else 1), scale * 2
            yield _Map("up", after, after, frames, scale)
    yield _Map("norm", before, before, frames, scale)
    yield _Map("conv", before, config.out_channels, frames, scale)


def decoder_cost(
    config: FullVAEConfig, height: int, width: int, ranks: int = 1, itemsize: int = 2
) -> Cost:
    """Decode of one latent of height x width in a stream, for the rank with most columns."""
    columns = share(width, ranks)
    place, parts = height * columns, ranks > 1
    neighbours = min(2, ranks - 1)  # of a rank in the middle
    operations = traffic = state = sent = weights = 0
    kernels = exchanges = 0
    for m in _decoder_maps(config):
        latents = config.latent_channels
        area, column = place * m.pixels, m.frames * height * m.scale
        if m.kind == "norm":
            operations += 2 * 2 * latents * m.inputs * place
            weights += 2 * (latents + 1) * m.inputs + 2 * m.inputs
            traffic += NORM_PASSES * m.inputs * area
            kernels, exchanges = kernels + NORM_KERNELS, exchanges + parts
            sent += (ranks - 1) * 3 * config.norm_num_groups * 4 // itemsize
            continue
        taps = {"conv": 27, "up": 9, "point": 1}[m.kind]
        operations += 2 * taps * m.inputs * m.outputs * area
        weights += taps * m.inputs * m.outputs + m.outputs
        traffic += CONV_PASSES * m.inputs * area
        kernels += CONV_KERNELS
        if m.kind != "point":
            exchanges += parts
            past = 2 * height * m.scale if m.kind == "conv" else 0
            sent += neighbours * m.inputs * (column + past)
            state += m.inputs * past * columns * m.scale
    return Cost(
        convolution=float(operations),
        traffic=float(traffic * itemsize),
        kernels=kernels,
        weights=weights * itemsize,
        state=state * itemsize,
        activations=_decoder_activations(config, place) * itemsize,
        exchanges=exchanges,
        sent=sent * itemsize,
    )


def _decoder_activations(config: FullVAEConfig, place: int) -> int:
    """Most numbers alive at once: a resnet's input beside its normalised copy and that copy joined
    to the two frames before it."""
    return max(
        m.inputs * (2 * m.frames + (m.frames + 2)) * m.scale**2 * place
        for m in _decoder_maps(config)
        if m.kind == "conv"
    )


# ---- the tiny decoder


def tiny_decoder_cost(
    config: TinyVAEConfig, height: int, width: int, ranks: int = 1, itemsize: int = 2
) -> Cost:
    """Decode of one latent by the tiny decoder, as the convolutions it is composed into."""
    columns, parts = share(width, ranks), ranks > 1
    neighbours = min(2, ranks - 1)
    frames, scale, exchanges = 1, 1, 0
    operations = traffic = state = sent = weights = peak = 0
    # in, out, T, scale, uses
    layers = [(config.latent_channels, config.decoder_widths[0], 1, 1, 1)]
    for stage, (blocks, _, _) in enumerate(DECODER_STAGES):
        wide, after = config.decoder_widths[stage], config.decoder_widths[stage + 1]
        for _ in blocks:
            layers += [(2 * wide, wide, frames, scale, 1), *[(wide, wide, frames, scale, 1)] * 2]
            state += wide * scale**2 * height * columns
            exchanges += 3 * parts
            sent += neighbours * 4 * wide * frames * scale * height
        layers.append((wide, 4 * after, frames, scale, GROWTHS[stage]))
        exchanges, sent = exchanges + parts, sent + neighbours * wide * frames * scale * height
        frames, scale = frames * GROWTHS[stage], scale * 2
    last, grown = config.decoder_widths[-1], GROWTHS[-1]
    layers.append((4 * last, 4 * config.patch_channels, frames // grown, scale // 2, grown))
    exchanges += (1 + grown) * parts
    sent += neighbours * (config.latent_channels * height + 4 * last * frames * scale // 2 * height)
    for inputs, outputs, times, size, uses in layers:
        area = times * size**2 * height * columns
        operations += uses * 2 * 9 * inputs * outputs * area
        weights += uses * (9 * inputs * outputs + outputs)
        traffic += uses * (inputs + 3 * outputs) * area
        peak = max(peak, (inputs + 2 * uses * outputs) * area)
    return Cost(
        convolution=operations,
        traffic=traffic * itemsize,
        kernels=3 * sum(uses for *_, uses in layers),
        weights=weights * itemsize,
        state=state * itemsize,
        activations=peak * itemsize,
        exchanges=exchanges,
        sent=sent * itemsize,
    )

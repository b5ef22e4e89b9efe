"""The transformer: names and sizes of the published weights, its special rules, and prepared parts
against one call."""

import gc
import json
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from configs.errors import UserError
from models.transformer import Transformer, position_table
from models.transformer_config import TransformerConfig

SMALL = TransformerConfig(
    num_attention_heads=4,
    attention_head_dim=8,
    num_layers=3,
    in_channels=4,
    out_channels=4,
    time_embed_dim=16,
    text_embed_dim=12,
    max_text_seq_length=5,
    control_dim=10,
    control_start_layer=1,
    control_end_layer=3,
)
PUBLISHED = TransformerConfig(control_start_layer=15)


def small(config: TransformerConfig = SMALL, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    return Transformer(config).eval()


def inputs(
    batch: int = 2, frames: int = 3, height: int = 6, width: int = 8
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(7)
    latents, text = torch.randn(batch, frames, 4, height, width), torch.randn(batch, 5, 12)
    return latents, torch.randint(1000, (batch, frames)), text, torch.randn(batch, frames, 10)


def published_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Reference section 1.3, written down once more."""
    d, de, head = config.width, config.time_embed_dim, config.attention_head_dim
    dt, dc, p, c = config.text_embed_dim, config.control_dim, config.patch_size, config.in_channels
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (width,), (width,)

    def modulated(name: str) -> None:
        linear(f"{name}.linear", 6 * d, de)
        norm(f"{name}.norm", d)

    def attention(name: str) -> None:
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            linear(f"{name}.{part}", d, d)
        for part in ("norm_q", "norm_k"):
            norm(f"{name}.{part}", head)

    shapes["patch_embed.proj.weight"], shapes["patch_embed.proj.bias"] = (d, c, p, p), (d,)
    linear("patch_embed.text_proj", d, dt)
    linear("time_embedding.linear_1", de, d)
    linear("time_embedding.linear_2", de, de)
    linear("control_embedding.0", dc, dc)
    linear("control_embedding.2", d, dc)
    linear("control_embedding.4", d, d)
    for i in range(config.num_layers):
        block = f"transformer_blocks.{i}"
        modulated(f"{block}.norm1")
        modulated(f"{block}.norm2")
        attention(f"{block}.attn1")
        linear(f"{block}.ff.net.0.proj", 4 * d, d)
        linear(f"{block}.ff.net.2", d, 4 * d)
    for j in range(config.control_end_layer - config.control_start_layer):
        modulated(f"control_blocks.{j}.norm1")
        attention(f"control_blocks.{j}.attn1")
    norm("norm_final", d)
    linear("norm_out.linear", 2 * d, de)
    norm("norm_out.norm", d)
    linear("proj_out", p * p * config.out_channels, d)
    return shapes


def test_the_published_shape() -> None:
    with torch.device("meta"):
        model = Transformer(PUBLISHED)
    found = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert found == published_shapes(PUBLISHED)
    assert len(found) == 982
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_009_546_304


def slow(
    model: Transformer, latents: Tensor, timesteps: Tensor, text: Tensor, control: Tensor
) -> Tensor:
    """Reference section 2 step by step, from the state dict alone: every token its own modulation,
    nothing shared, and the control attention over all F S repeated control tokens."""
    w, config = model.state_dict(), model.config
    batch, frames, channels, height, width = latents.shape
    rows, columns, heads = height // 2, width // 2, config.num_attention_heads
    tokens = rows * columns

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)

    def split(name: str, x: Tensor, normed: str | None = None) -> Tensor:
        x = linear(name, x).unflatten(-1, (heads, -1))
        return (norm(normed, x, 1e-6) if normed else x).transpose(1, 2)

    def attend(name: str, x: Tensor, y: Tensor, causal: bool) -> Tensor:
        q, k = (
            split(f"{name}.to_q", x, f"{name}.norm_q"),
            split(f"{name}.to_k", y, f"{name}.norm_k"),
        )
        out = F.scaled_dot_product_attention(q, k, split(f"{name}.to_v", y), is_causal=causal)
        return linear(f"{name}.to_out.0", out.transpose(1, 2).flatten(2))

    def modulation(name: str, text_tokens: int) -> list[Tensor]:
        """Shift, scale and gate of every token: text tokens first, from the last latent's second
        half."""
        parts = linear(f"{name}.linear", F.silu(temb)).chunk(6, dim=-1)
        video = [part.repeat_interleave(tokens, dim=1) for part in parts[:3]]
        last = [part[:, -1:].expand(-1, text_tokens, -1) for part in parts[3:]]
        return [torch.cat(pair, dim=1) for pair in zip(last, video, strict=True)]

    half = config.width // 2
    angles = timesteps[..., None].float() * 10000 ** (-torch.arange(half) / half)
    temb = linear("time_embedding.linear_1", torch.cat((angles.cos(), angles.sin()), -1))
    temb = linear("time_embedding.linear_2", F.silu(temb))
    patches = F.conv2d(
        latents.flatten(0, 1), w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=2
    )
    scales = (config.temporal_interpolation_scale, config.spatial_interpolation_scale)
    places = position_table(
        config.width, (frames, rows, columns), scales, latents.dtype, latents.device
    )
    video = patches.flatten(2).transpose(1, 2).unflatten(0, (batch, frames)) + places
    x = torch.cat((linear("patch_embed.text_proj", text), video.flatten(1, 2)), dim=1)
    n = text.shape[1]
    u = linear("control_embedding.2", F.silu(linear("control_embedding.0", control)))
    u = linear("control_embedding.4", F.silu(u)).repeat_interleave(tokens, dim=1)
    for i in range(config.num_layers):
        block = f"transformer_blocks.{i}"
        shift, scale, gate = modulation(f"{block}.norm1", n)
        h = norm(f"{block}.norm1.norm", x) * (1 + scale) + shift
        x = x + gate * attend(f"{block}.attn1", h, h, causal=False)
        shift, scale, gate = modulation(f"{block}.norm2", n)
        h = norm(f"{block}.norm2.norm", x) * (1 + scale) + shift
        h = F.gelu(linear(f"{block}.ff.net.0.proj", h), approximate="tanh")
        x = x + gate * linear(f"{block}.ff.net.2", h)
        j = i - config.control_start_layer
        if 0 <= j < config.control_end_layer - config.control_start_layer:
            block = f"control_blocks.{j}"
            shift, scale, gate = modulation(f"{block}.norm1", frames * tokens)
            both = torch.cat((u, x[:, n:]), dim=1)
            both = norm(f"{block}.norm1.norm", both) * (1 + scale) + shift
            keys, queries = both.split(frames * tokens, dim=1)
            change = gate[:, frames * tokens :] * attend(
                f"{block}.attn1", queries, keys, causal=True
            )
            x = torch.cat((x[:, :n], x[:, n:] + change), dim=1)
    shift, scale = (
        linear("norm_out.linear", F.silu(temb)).repeat_interleave(tokens, dim=1).chunk(2, dim=-1)
    )
    x = linear(
        "proj_out", norm("norm_out.norm", norm("norm_final", x[:, n:])) * (1 + scale) + shift
    )
    x = x.view(batch, frames, rows, columns, channels, 2, 2)
    return torch.einsum("bfyxcpq->bfcypxq", x).reshape(latents.shape)


@pytest.mark.parametrize(("start", "end"), [(0, 3), (1, 3), (1, 2), (2, 3)])
def test_the_slow_way_gives_the_same(start: int, end: int) -> None:
    model = small(replace(SMALL, control_start_layer=start, control_end_layer=end))
    with torch.inference_mode():
        for value in model.parameters():
            value.add_(0.3 * torch.randn_like(value))
        expected = slow(model, *inputs())
        torch.testing.assert_close(
            model(*inputs()), expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-4
        )


def test_prepared_parts_equal_one_call() -> None:
    model, (latents, timesteps, text, control) = small(), inputs(batch=1)
    with torch.inference_mode():
        whole = model(latents, timesteps, text, control)
        rows = model.modulate(timesteps)
        vocabulary = model.control_keys(control[:, [2, 0, 1]], rows)
        keys = [(k[:, [1, 2, 0]], v[:, [1, 2, 0]]) for k, v in vocabulary]
        parts = model.denoise(latents, model.embed_text(text), rows, keys)
    torch.testing.assert_close(parts, whole)


def test_one_timestep_stands_for_all_latents_and_batches_broadcast() -> None:
    model, (latents, _, text, control) = small(), inputs()
    with torch.inference_mode():
        each = model(latents, torch.full((2, 3), 499), text, control[:1].expand(2, -1, -1))
        torch.testing.assert_close(
            model(latents, torch.tensor([499, 499]), text, control[:1]), each
        )
        torch.testing.assert_close(model(latents, torch.tensor([[[499]]]), text, control[:1]), each)


def test_a_latent_does_not_see_later_controls() -> None:
    """The last operation before the head is a control block, so with control in the last layer
    alone this is exact."""
    model = small(replace(SMALL, control_start_layer=2))
    latents, timesteps, text, control = inputs(batch=1)
    changed = control.clone()
    changed[:, 2] += 1
    with torch.inference_mode():
        before, after = (
            model(latents, timesteps, text, control),
            model(latents, timesteps, text, changed),
        )
    assert torch.equal(before[:, :2], after[:, :2]) and not torch.allclose(
        before[:, 2], after[:, 2]
    )


def test_a_fresh_zero_initialised_control_block_is_the_identity() -> None:
    model, (latents, timesteps, text, control) = small(), inputs()
    with torch.no_grad():
        for block in model.control_blocks:
            block.norm1.linear.weight.zero_()
            block.norm1.linear.bias.zero_()
        assert torch.equal(
            model(latents, timesteps, text, control),
            model(latents, timesteps, text, torch.zeros_like(control)),
        )


def test_without_control_layers() -> None:
    model = small(replace(SMALL, control_start_layer=0, control_end_layer=0))
    with torch.inference_mode():
        assert model(*inputs()).shape == (2, 3, 4, 6, 8)


def test_gradients_reach_every_tensor() -> None:
    model = small()
    model(*inputs()).square().mean().backward()
    assert [
        name
        for name, value in model.named_parameters()
        if value.grad is None or not value.grad.any()
    ] == []


def test_training_after_inference_does_not_trip_over_cached_tables() -> None:
    model = small()
    with torch.inference_mode():
        model(*inputs(frames=4))
    model(*inputs(frames=4)).sum().backward()


def test_positions() -> None:
    """Channels: a quarter time, 3/8 column, 3/8 row; sines first; places divided by 1.875."""
    table = position_table(64, (2, 3, 4), (1.0, 1.875), torch.float32, torch.device("cpu")).view(
        2, 3, 4, 64
    )
    frame, row, column = 1, 2, 3
    here = table[frame, row, column]
    assert here[0] == pytest.approx(torch.sin(torch.tensor(1.0)).item())
    assert here[8] == pytest.approx(torch.cos(torch.tensor(1.0)).item())
    assert here[16] == pytest.approx(torch.sin(torch.tensor(3 / 1.875)).item())
    assert here[40] == pytest.approx(torch.sin(torch.tensor(2 / 1.875)).item())
    assert here[41] == pytest.approx(torch.sin(torch.tensor(2 / 1.875 * 10000 ** (-1 / 12))).item())


@pytest.mark.parametrize(("height", "width"), [(5, 8), (6, 7), (0, 8)])
def test_sizes_that_patches_do_not_cover(height: int, width: int) -> None:
    with pytest.raises(UserError, match="cannot be cut into patches"):
        small().grid(height, width)


def test_config_travels_through_json() -> None:
    assert TransformerConfig.from_json(json.loads(SMALL.to_json())) == SMALL
    assert json.loads(PUBLISHED.to_json()).keys() >= asdict(PUBLISHED).keys() | {
        "use_rotary_positional_embeddings"
    }
    assert TransformerConfig.from_json({}).control_start_layer == 0
    assert (
        TransformerConfig.from_json({"invert_scale_latents": False, "_class_name": "x"})
        == TransformerConfig()
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"use_rotary_positional_embeddings": True}, "not supported"),
        ({"cond_proj_dim": 64}, "not supported"),
        ({"patch_size_t": 2}, "unknown key"),
        ({"num_layers": "30"}, "must be of type int"),
        ({"num_layers": True}, "must be of type int"),
        ({"num_layers": 0}, "at least 1"),
        ({"num_layers": 100_000}, "num_layers must be at most 1024"),
        ({"time_embed_dim": 10**12}, "time_embed_dim must be at most"),
        ({"num_attention_heads": 65_536}, "multiple of 16, at most"),
        ({"control_dim": 0}, "control_dim must be at least 1"),
        ({"control_start_layer": -1}, "control_start_layer must be at least 0"),
        ({"spatial_interpolation_scale": 0.0}, "spatial_interpolation_scale must be at least"),
        ({"norm_eps": float("nan")}, "norm_eps must be at"),
        ({"num_layers": 10}, "control layers"),
        ({"control_start_layer": 31}, "control layers"),
        ({"attention_head_dim": 10, "num_attention_heads": 1}, "multiple of 16"),
    ],
)
def test_config_errors(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TransformerConfig.from_json(values)


def test_tables_are_made_once_a_size_and_go_with_the_model() -> None:
    model, arguments = small(), inputs()
    with torch.inference_mode():
        model(*arguments)
    before = _tables()
    with torch.inference_mode():
        model(*arguments)
    assert before and _tables() == before
    del model
    assert not _tables() & before


def _tables() -> set[int]:
    """Where tensors lie that have the size of positions [F, S, D] or of a bias [F, S, F] here."""
    gc.collect()
    found = [value for value in gc.get_objects() if type(value) is Tensor]
    return {id(value) for value in found if tuple(value.shape) in {(3, 12, 32), (3, 12, 3)}}

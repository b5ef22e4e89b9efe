"""A weight folder's parts on one device: loaded once, used by as many worlds as one likes."""

import functools
import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from configs.errors import UserError
from configs.schema import StreamSettings
from models.checkpoint import Checkpoint
from models.device import pick_decoder_dtype
from models.engines.serve import LoadedDecoder, served_decoder
from models.frames import StreamDecoder
from models.tae import TinyVAE
from models.text import TextEncoder
from models.transformer import Transformer
from models.vae import FullVAE
from models.world import World, WorldParts

PROMPTS_KEPT = 8  # embeddings; the published ones take 2 MB each

log = logging.getLogger(__name__)


class Parts:
    """A weight folder's parts on one device, each loaded when it is first needed and then kept."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: str = "auto") -> None:
        """dtype: auto, float32, bfloat16 or float16 (`Checkpoint.number_format`). Raises UserError for
        another name."""
        self.checkpoint, self.device = checkpoint, device
        self.dtype, self._dtype_name = checkpoint.number_format(device, dtype), dtype
        if dtype != "auto" and checkpoint.engine is not None:
            raise UserError(
                f"engine {checkpoint.engine} and dtype {dtype}: both choose the number format; give one"
            )
        self._encoded: dict[tuple[str, ...], Tensor] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> "Parts":
        return self  # weights never change: whoever uses them may be copied without them

    @property
    def engine(self) -> str:
        """What computes, in a word: the same engine gives the same bytes."""
        if self.checkpoint.engine is not None:
            return self.checkpoint.engine
        decoder = self.dtype
        if isinstance(self.autoencoder, TinyVAE):
            decoder = pick_decoder_dtype(self._dtype_name, self.device)
        formats = (str(dtype).removeprefix("torch.") for dtype in (self.dtype, decoder))
        return f"torch {self.device.type} {'/'.join(formats)}"

    @functools.cached_property
    def transformer(self) -> Transformer:
        return self.checkpoint.transformer(self.device, self.dtype)

    @functools.cached_property
    def controls(self) -> Tensor:
        """[10, Dc] fp32: nine labels and the null control."""
        return self.checkpoint.control_embeddings()

    @functools.cached_property
    def autoencoder(self) -> FullVAE | TinyVAE:
        return self.checkpoint.autoencoder(self.device, self.dtype)

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings [n, N_t, Dt]; the text encoder is loaded at the first new prompt."""
        key = tuple(prompts)
        if key not in self._encoded:
            if len(self._encoded) >= PROMPTS_KEPT:
                self._encoded.pop(next(iter(self._encoded)))
            encoding = self._text.encode(prompts)
            if encoding.notice:
                log.warning(encoding.notice)
            self._encoded[key] = encoding.embeddings
        return self._encoded[key]

    def decoder(self) -> StreamDecoder:
        """A fresh streaming decoder, as live mode has it."""
        return self._decoder.stream()

    def world(
        self,
        settings: StreamSettings | None = None,
        guidance: float | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> World:
        """A world of these parts; None means what the weights say. height, width: pixels. Raises
        UserError as `World`."""
        parts = WorldParts(
            transformer=self.transformer,
            controls=self.controls,
            settings=settings or self.checkpoint.streaming,
            encode=self.encode,
            engine=self.checkpoint.engine,
        )
        return World(parts, guidance=guidance, size=self.checkpoint.latent_size(height, width))

    @functools.cached_property
    def _decoder(self) -> LoadedDecoder:
        checkpoint = self.checkpoint
        ranges = checkpoint.decoder_ranges()
        return served_decoder(self.autoencoder, checkpoint.engine, ranges, self._dtype_name)

    @functools.cached_property
    def _text(self) -> TextEncoder:
        return self.checkpoint.text_encoder(self.device, self.dtype)

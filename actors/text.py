"""The text worker: prompts to embeddings, in a process of its own so that a new prompt never delays
a step."""

import numpy as np

from actors.worker import Worker
from configs.choice import WeightChoice
from models.text import TextEncoder


class TextWorker(Worker):
    """Loads the text encoder when it joins."""

    def __init__(self, weights: WeightChoice, rank: int, size: int) -> None:
        super().__init__(weights, rank, size)
        self._encoder: TextEncoder | None = None

    def join(self, init_method: str) -> None:
        """Load the encoder (there are no peers)."""
        self._encoder = self.checkpoint.text_encoder(self.device, self.dtype)

    def encode(self, prompt: str) -> tuple[np.ndarray, str]:
        """(embedding [1, N_t, Dt] fp32, or [2, N_t, Dt] with the empty prompt second where guidance
        is used; a notice such as that the prompt was cut, "" if there is none)."""
        assert self._encoder is not None, "join comes first"
        guided = self.checkpoint.streaming.served_guidance != 1.0
        embeddings, notice = self._encoder.encode([prompt, ""] if guided else [prompt])
        return embeddings.float().cpu().numpy(), notice

"""A shown frame of which a test names what matters to it."""

from typing import Any

import numpy as np

from pipeline.stage.audience import ShownFrame

BLACK = np.zeros((2, 2, 3), np.uint8)


def shown(index: int = 0, image: np.ndarray = BLACK, **fields: Any) -> ShownFrame:
    """Frame `index` of the first epoch: straight on, nobody's cursor, the first prompt."""
    plain = {"epoch": 0, "label": "D", "cursor": 0, "prompt": "a road", "prompt_version": 0}
    return ShownFrame(index=index, latent=index // 4, image=image, **{**plain, **fields})

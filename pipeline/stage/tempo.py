"""Whether the machine holds the frame rate, and what helps where it does not."""

from dataclasses import dataclass
from typing import Final

from actors.source import WorldInfo
from pipeline.stage.figures import Figures

SLOW: Final = 0.92  # of the frame rate: below it the world runs visibly slower than it should
HELD: Final = 0.97  # of the frame rate, before a machine that was slow counts as fast enough
LEAST_SECONDS: Final = 8.0  # of flowing frames before anything is said


@dataclass(frozen=True)
class Tempo:
    """Frames a second shown lately (None: not long enough to say) and wanted, seconds that a
    latent lasts, median milliseconds of step and decode (None: not measured)."""

    shown: float | None
    wanted: int
    latent_seconds: float
    step_ms: float | None
    decode_ms: float | None


class TempoWatch:
    """Looks at the figures of a show again and again; ``line`` is what there is to say."""

    def __init__(self, info: WorldInfo) -> None:
        self.line = ""
        self._info = info

    def look(self, figures: Figures, now: float) -> bool:
        """Judge anew; True if ``line`` is news."""
        before = self.line
        long_enough = figures.shown.recent_seconds >= LEAST_SECONDS
        self.line = judge(
            Tempo(
                shown=figures.shown.lately(now) if long_enough else None,
                wanted=self._info.fps,
                latent_seconds=self._info.latent_seconds,
                step_ms=figures.parts["dit"].percentiles(50)["p50"],
                decode_ms=figures.parts["decode"].percentiles(50)["p50"],
            ),
            slow=bool(before),
        )
        return bool(self.line) and not before


def judge(tempo: Tempo, slow: bool) -> str:
    """One line that says what is too slow and what helps; "" where the rate is held. slow: what was
    said last."""
    if tempo.shown is None or tempo.shown >= (HELD if slow else SLOW) * tempo.wanted:
        return ""
    return (
        f"this machine makes {tempo.shown:.1f} of {tempo.wanted} frames a second, so the world runs "
        f"in slow motion: {_cause(tempo)}"
    )


def _cause(tempo: Tempo) -> str:
    lasts = 1000 * tempo.latent_seconds
    step, decode = tempo.step_ms or 0.0, tempo.decode_ms or 0.0
    if decode > lasts:
        return (
            f"the decoder takes {decode:.0f} ms of the {lasts:.0f} ms that a latent lasts; "
            "more decoder workers (NUM_GPUS_VAE), a smaller decoder (--vae tiny FILE) or a GPU help"
        )
    if step > lasts:
        return (
            f"the transformer takes {step:.0f} ms of the {lasts:.0f} ms that a latent lasts; "
            "more ranks (NUM_GPUS_DIT), smaller weights or a GPU help"
        )
    if step + decode > lasts:
        return (
            f"transformer ({step:.0f} ms) and decoder ({decode:.0f} ms) together take longer than "
            f"the {lasts:.0f} ms that a latent lasts; more cores, or a GPU, help"
        )
    return "other programs take the processor; end them, or give this one more cores"

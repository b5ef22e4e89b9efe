"""The tape: the drive that led to what is shown, and the control logs that are written of it."""

import contextlib
from pathlib import Path

from actors.source import Take, WorldInfo
from pipeline.stage.audience import Audience
from pipeline.stage.control_log import ControlLog


class Tape:
    """Every label and prompt since latent 0. A log that cannot be written is given up, with a
    notice to the audience."""

    def __init__(self, info: WorldInfo, seed: int, audience: Audience) -> None:
        """seed: of the world that is shown."""
        self.seed = seed
        self.failures: list[str] = []  # a line for every log that is not whole
        self._info = info
        self._audience = audience
        self._logs: list[ControlLog] = []
        self._epoch = 0
        self._labels: list[str] = []
        self._prompts: list[str] = []
        self._first = 0  # latents before this one led here and were not shown in this drive

    @property
    def logged(self) -> bool:
        """Whether a control log is being written."""
        return bool(self._logs)

    def take(self) -> Take:
        """The drive since latent 0."""
        return self.led(len(self._labels))

    def led(self, latent: int) -> Take:
        """The part of the drive that led to ``latent``."""
        return Take(self.seed, tuple(self._labels[:latent]), tuple(self._prompts[:latent]))

    def rewind(self, led: Take, epoch: int) -> None:
        """The drive goes on behind ``led``: at latent 0, at an earlier one of its own, or where
        another drive led."""
        count = len(led.labels)
        mine = self.led(count) == Take(led.seed, led.labels, led.prompts)
        self.seed, self._epoch = led.seed, epoch
        self._labels, self._prompts = list(led.labels), list(led.prompts)
        self._first = min(self._first, count) if mine else count
        if not mine:
            self._write(range(count))

    def latent(self, epoch: int, label: str, prompt: str) -> None:
        """The next latent is shown; its step was given ``label`` while ``prompt`` was in force."""
        self._epoch = epoch
        self._labels.append(label)
        self._prompts.append(prompt)
        self._write(range(len(self._labels) - 1, len(self._labels)))

    def log(self, path: Path) -> ControlLog:
        """Write the drive since the last reset, and from now on, to ``path``. Raises UserError if
        the file exists."""
        log = ControlLog(path, self._info)
        try:
            for index in range(len(self._labels)):
                self._add(log, index)
            log.flush()
        except OSError:
            with contextlib.suppress(OSError):
                log.close()
            path.unlink(missing_ok=True)
            raise
        self._logs.append(log)
        return log

    def end(self, log: ControlLog) -> None:
        """Close a log. Idempotent."""
        if log in self._logs:
            self._logs.remove(log)
            with contextlib.suppress(OSError):  # a full disk has been told already
                log.close()

    def close(self) -> None:
        """Close all logs."""
        for log in tuple(self._logs):
            self.end(log)

    def _write(self, latents: range) -> None:
        """Latents of the drive into every log."""
        for log in tuple(self._logs):
            try:
                for index in latents:
                    self._add(log, index)
                log.flush()
            except OSError as error:
                self.end(log)
                failure = f"control log {log.path} ended: {error.strerror or error}"
                self.failures.append(failure)
                self._audience.warn(failure)

    def _add(self, log: ControlLog, index: int) -> None:
        label, prompt = self._labels[index], self._prompts[index]
        log.add(index, self._epoch, label, prompt, self.seed, shown=index >= self._first)

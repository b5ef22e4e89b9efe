"""The life of a show: starting, playing, rebuilding after a fault, ended, and why."""

import asyncio

from actors.source import StageReport


class Life:
    """``state`` is one of "starting", "playing", "rebuilding", "ended"; ``report`` the newest that
    the source gave; ``reason`` why it ended, "" where nobody said."""

    def __init__(self) -> None:
        self.state = "starting"
        self.report = StageReport("starting", 0.0, "starting", 0.0)
        self.reason = ""
        self._stopped = asyncio.Event()

    def play(self) -> None:
        """Frames come, for the first time or again."""
        self.state = "playing"

    def hear(self, report: StageReport) -> bool:
        """The source reports a stage; whether it is that of a rebuild."""
        self.report = report
        if report.stage != "rebuilding":
            return False
        self.state = "rebuilding"
        return True

    def stop(self, reason: str) -> None:
        """Ask it to end. The first reason counts."""
        self.reason = self.reason or reason
        self._stopped.set()

    async def stopped(self) -> None:
        """Return once it was asked to end."""
        await self._stopped.wait()

    def end(self) -> None:
        """It has ended."""
        self.state = "ended"

"""The files that a run leaves: recording, control log, summary."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import UserError
from configs.limits import check_output_file, check_video_file
from configs.schema import RunConfig
from pipeline.stage.show import Show


@dataclass(frozen=True)
class RunFiles:
    """Checked before anything starts, opened when the workers have loaded, so that a start that
    fails leaves none of them."""

    record: Path | None = None
    control_log: Path | None = None
    summary: Path | None = None
    goes_on: bool = False  # the recording is one that was cut off, and nobody asked for it now

    @staticmethod
    def checked(config: RunConfig) -> "RunFiles":
        """The files of a run. Raises UserError as ``check``."""
        files = RunFiles(config.record, config.control_log, config.summary)
        files.check()
        return files

    def recording(self, path: Path | None) -> "RunFiles":
        """The same with a recording at ``path``, where none was asked for. Raises UserError as
        ``check``."""
        if self.record is not None or path is None:
            return self
        files = replace(self, record=path, goes_on=True)
        files.check()
        return files

    def check(self) -> None:
        """Raise UserError for a name that may not be written, or is given twice."""
        taken: dict[Path, str] = {}
        for purpose, path in self._purposes():
            check = check_video_file if purpose == "--record" else check_output_file
            place = check(path, purpose).resolve()
            if place in taken:
                raise UserError(
                    f"{purpose} {path}: one file for two purposes ({taken[place]}); "
                    "choose another name for one of them"
                )
            taken[place] = purpose

    def open(self, show: Show) -> None:
        """Begin recording and control log. Raises UserError, OSError."""
        if self.record is not None:
            recordings = show.recordings
            (recordings.go_on if self.goes_on else recordings.start)(self.record)
        if self.control_log is not None and not self._is_the_recordings():
            show.tape.log(self.control_log)

    def write_summary(self, text: str) -> None:
        """Write the summary whole or not at all. Raises OSError."""
        if self.summary is not None:
            write_whole(self.summary, text)

    def made(self) -> list[Path]:
        """Those that exist by now."""
        wanted = (self.record, self.control_log, self.summary)
        return [path for path in wanted if path is not None and path.exists()]

    def _purposes(self) -> Iterator[tuple[str, Path]]:
        if self.record is not None:
            yield "--record", self.record
            yield "control log of --record", self.record.with_suffix(".jsonl")
        if self.control_log is not None and not self._is_the_recordings():
            yield "--control-log", self.control_log
        if self.summary is not None:
            yield "--summary", self.summary

    def _is_the_recordings(self) -> bool:
        """Whether --control-log names the log that lies beside the recording anyway."""
        if self.record is None or self.control_log is None:
            return False
        return self.control_log.resolve() == self.record.with_suffix(".jsonl").resolve()


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises OSError."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise

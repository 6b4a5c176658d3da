"""
What a person sees while a run is under way.

A run reports to an object with four methods (`Progress`). On a terminal that is a live display, elsewhere plain lines
with the time of day, one at the start and the end of every stage and one every ten seconds between.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO, runtime_checkable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

__all__ = ["LineProgress", "LiveProgress", "Progress", "SilentProgress", "make_progress"]


@runtime_checkable
class Progress(Protocol):
    """What a run needs of a display: one stage at a time, any thread may advance it."""

    def start(self, stage: str, total: int) -> None:
        """Begin a stage of ``total`` units, usually integrations; ends the stage before it."""

    def advance(self, n: int = 1) -> None:
        """Report ``n`` more units done."""

    def finish(self) -> None:
        """End the stage."""

    def message(self, text: str) -> None:
        """Show one line that stays."""


class SilentProgress(AbstractContextManager["SilentProgress"]):
    """
    Show nothing.

    Examples
    --------
    >>> from tso3.progress import Progress, SilentProgress
    >>> isinstance(SilentProgress(), Progress)
    True
    """

    def __exit__(self, *exc: object) -> None:
        """Nothing to close."""

    def start(self, stage: str, total: int) -> None:
        """Ignore the stage."""

    def advance(self, n: int = 1) -> None:
        """Ignore the advance."""

    def finish(self) -> None:
        """Ignore the end."""

    def message(self, text: str) -> None:
        """Ignore the text."""


class LineProgress(AbstractContextManager["LineProgress"]):
    """
    Write plain lines, for logs and pipes.

    Parameters
    ----------
    stream : text file, optional
        Standard error by default.
    interval : float, optional
        Least time between two lines of one stage [s].

    Examples
    --------
    >>> import io
    >>> from tso3.progress import LineProgress
    >>> stream = io.StringIO()
    >>> progress = LineProgress(stream)
    >>> progress.start("survey", 128)
    >>> progress.finish()
    >>> [line[9:] for line in stream.getvalue().splitlines()]
    ['survey: 128', 'survey: done in 0.0 s']
    """

    def __init__(self, stream: TextIO | None = None, interval: float = 10.0) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._interval = interval
        self._lock = threading.RLock()
        self._stage: str | None = None
        self._total = self._done = 0
        self._began = self._last = 0.0

    def __exit__(self, *exc: object) -> None:
        """Nothing to close: a stage that an error cut short is not reported as done."""

    def start(self, stage: str, total: int) -> None:
        """Begin a stage and write its name and size."""
        with self._lock:
            self.finish()
            self._stage, self._total, self._done = stage, total, 0
            self._began = self._last = time.monotonic()
            self.message(f"{stage}: {total}")

    def advance(self, n: int = 1) -> None:
        """Add to the stage, if there is one; writes a line if the last one is old enough."""
        with self._lock:
            if self._stage is None:
                return
            self._done += n
            now = time.monotonic()
            if now - self._last >= self._interval:
                self._last = now
                share = f" ({100 * self._done // self._total} %)" if self._total else ""
                self.message(f"{self._stage}: {self._done} of {self._total}{share}")

    def finish(self) -> None:
        """Write how long the stage took."""
        with self._lock:
            if self._stage is not None:
                self.message(f"{self._stage}: done in {time.monotonic() - self._began:.1f} s")
            self._stage = None

    def message(self, text: str) -> None:
        """Write one line with the time of day."""
        with self._lock:
            self._stream.write(f"{datetime.now():%H:%M:%S} {text}\n")
            self._stream.flush()


class LiveProgress(AbstractContextManager["LiveProgress"]):
    """
    A bar for each stage, redrawn in place on a terminal.

    Parameters
    ----------
    console : rich.console.Console, optional
        Standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._console = Console(stderr=True) if console is None else console
        self._bars = Bars(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._lock = threading.RLock()
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it should be, whatever happened."""
        self._bars.stop()

    def start(self, stage: str, total: int) -> None:
        """Begin a stage with its own bar."""
        with self._lock:
            self.finish()
            self._task = self._bars.add_task(stage, total=max(total, 1))

    def advance(self, n: int = 1) -> None:
        """Move the bar."""
        with self._lock:
            if self._task is not None:
                self._bars.advance(self._task, n)

    def finish(self) -> None:
        """Fill the bar and stop its clock."""
        with self._lock:
            if self._task is not None:
                total = next(task.total for task in self._bars.tasks if task.id == self._task)
                self._bars.update(self._task, completed=total)
                self._bars.stop_task(self._task)
            self._task = None

    def message(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def make_progress(*, quiet: bool = False, stream: TextIO | None = None) -> SilentProgress | LineProgress | LiveProgress:
    """
    Return the display that suits a stream.

    Parameters
    ----------
    quiet : bool, optional
        Show nothing.
    stream : text file, optional
        Where to show it; standard error by default.

    Returns
    -------
    progress : Progress
        A context manager: a live display if the stream is a terminal, else plain lines.

    Examples
    --------
    >>> import io
    >>> from tso3.progress import make_progress
    >>> type(make_progress(stream=io.StringIO())).__name__
    'LineProgress'
    """
    if quiet:
        return SilentProgress()
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        return LineProgress(stream)
    from rich.console import Console

    return LiveProgress(Console(file=stream))

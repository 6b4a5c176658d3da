"""
Who reduces the parts of a run: this process (`ThisProcess`), or the workers of a cluster (`tso3.cluster.Cluster`).

The pipeline knows one interface, `Crew`: into which pieces an exposure is cut, and the results of the pieces as they
come. A piece is some segments, so that no two processes write one file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from tso3.io.exposure import Exposure
from tso3.io.x1dints import X1dintsWriter
from tso3.progress import Progress
from tso3.recipe import Limits, RowTarget, Segments

__all__ = ["Crew", "Task", "ThisProcess"]


class Task(Protocol):
    """What is to be done in one piece; can be sent to another process."""

    @property
    def label(self) -> str:
        """What the display calls it."""

    @property
    def total(self) -> int:
        """Units of progress."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the input files that it reads."""

    @property
    def limits(self) -> Limits:
        """Memory and threads."""


T = TypeVar("T", bound=Task)
R = TypeVar("R")


class Crew(Protocol):
    """
    Anything that reduces parts.

    Attributes
    ----------
    limits : Limits
        What each of its processes may use.
    """

    limits: Limits

    def pieces(self, exposure: Exposure) -> list[Segments]:
        """Return how the segments of an exposure are shared out."""

    def rows(self, writer: X1dintsWriter) -> RowTarget:
        """Return where the spectra of a piece go."""

    def run(
        self, function: Callable[[T, Progress], R], tasks: Sequence[T], stage: str, progress: Progress
    ) -> Iterator[R]:
        """Yield what a function gives for each task, as they finish; the first error ends all and is raised."""


class ThisProcess:
    """
    The threads of this process: all segments are one piece, and spectra go straight into the product.

    Parameters
    ----------
    limits : Limits
        Memory and threads.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def pieces(self, exposure: Exposure) -> list[Segments]:
        """Return one piece with all segments."""
        return [Segments.of(exposure)]

    def rows(self, writer: X1dintsWriter) -> RowTarget:
        """Return the product itself."""
        return writer

    def run(
        self, function: Callable[[T, Progress], R], tasks: Sequence[T], stage: str, progress: Progress
    ) -> Iterator[R]:
        """
        Do the tasks one after another.

        Parameters
        ----------
        function : callable
            Does a task, and tells the display.
        tasks : sequence of Task
            What is to be done.
        stage : str
            Unused: each task is a stage of its own.
        progress : Progress
            The display.

        Yields
        ------
        result : object
            What the function gives.
        """
        for task in tasks:
            yield function(task, progress)

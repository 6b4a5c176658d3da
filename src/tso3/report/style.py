"""What every figure shares: colours, sizes, and a figure that needs no display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "colour_of", "figure", "write_png"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
"""The palette of Okabe and Ito, which colour-blind readers can tell apart; its yellow is too pale for points."""

_SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "axes.linewidth": 0.8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "legend.frameon": False,
    "axes.formatter.useoffset": False,
    "savefig.dpi": 200,
}


def colour_of(index: int) -> str:
    """
    Return the colour of the n-th curve.

    Parameters
    ----------
    index : int
        0 for the first; repeats after the last colour.

    Returns
    -------
    colour : str
        As matplotlib reads it.

    Examples
    --------
    >>> from tso3.report.style import colour_of
    >>> colour_of(0) == colour_of(7)
    True
    """
    return COLOURS[index % len(COLOURS)]


@contextmanager
def figure(width: float = 7.0, height: float = 4.0) -> Iterator[Figure]:
    """
    Give a figure in the style of this package; matplotlib's own settings stay as they were.

    Parameters
    ----------
    width, height : float, optional
        Size [inch]; 7 is the full width of a page in two columns.

    Yields
    ------
    figure : matplotlib.figure.Figure
        Belongs to no window and no pyplot state.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        yield Figure(figsize=(width, height), layout="constrained")


def write_png(figure: Figure, path: str | Path) -> Path:
    """
    Write a figure as PNG, under a temporary name that is then renamed.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn with `figure`.
    path : path-like
        File to be written; its folder exists.

    Returns
    -------
    path : Path
        The file.
    """
    from tso3.io.atomic import atomic_path

    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "tso3"})
    return Path(path)

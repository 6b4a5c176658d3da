"""The part of the template's fit that one process does: the integrations of some segments (see `tso3.recipe`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tso3.core.template import Template, TemplateFit
from tso3.io.exposure import Exposure
from tso3.io.reader import Reader
from tso3.progress import Progress
from tso3.recipe import Limits, Segments
from tso3.steps import template

__all__ = ["FitPart", "fit_part", "joined_fits"]


@dataclass(frozen=True)
class FitPart:
    """
    Some segments of an exposure to which its template is fitted.

    Attributes
    ----------
    template : Template
        Of the exposure.
    exposure : Exposure
        Whose integrations they are.
    segments : Segments
        Which.
    limits : Limits
        Threads.
    """

    template: Template
    exposure: Exposure
    segments: Segments
    limits: Limits

    @property
    def label(self) -> str:
        """What the display calls it."""
        return f"{self.exposure.label}: template"

    @property
    def total(self) -> int:
        """Units of progress."""
        return self.segments.n_int

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the input files of the part."""
        return tuple(path.name for path in self.exposure.paths[self.segments.first : self.segments.last])


def fit_part(part: FitPart, progress: Progress) -> tuple[int, TemplateFit]:
    """
    Fit the template to the integrations of some segments.

    Parameters
    ----------
    part : FitPart
        What is to be done.
    progress : Progress
        Told at the end.

    Returns
    -------
    start : int
        Exposure index of the first integration.
    fit : TemplateFit
        Of these integrations.
    """
    where = part.segments
    with Reader(part.exposure) as reader:
        found = template.fit(part.template, part.exposure, reader, part.limits.workers, (where.start, where.stop))
    progress.advance(where.n_int)
    return where.start, found


def joined_fits(parts: Sequence[tuple[int, TemplateFit]]) -> TemplateFit:
    """Return the fit to all integrations from those to the parts, in any order."""
    fits = [fit for _, fit in sorted(parts, key=lambda part: part[0])]
    return TemplateFit(*(np.concatenate([getattr(fit, name) for fit in fits]) for name in vars(fits[0])))

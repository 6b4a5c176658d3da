"""The time-series modes: one row per EXP_TYPE, from which everything else about a mode is derived."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MODES", "Mode", "mode_of"]


@dataclass(frozen=True)
class Mode:
    """
    What is particular about one time-series mode.

    Attributes
    ----------
    exp_type : str
        EXP_TYPE keyword of the exposure.
    kind : str
        ``"imaging"`` or ``"spectroscopy"``.
    dispersion_axis : int
        0 for imaging, 1 where wavelength runs along x, 2 where it runs along y (as DISPAXIS).
    needs_tsovisit : bool
        True if the EXP_TYPE alone does not make it a time series; TSOVISIT must be true.
    detector_columns : bool
        True if the archive names white-light columns after the detector even when there is only one.
    """

    exp_type: str
    kind: str
    dispersion_axis: int
    needs_tsovisit: bool = False
    detector_columns: bool = False

    @property
    def is_imaging(self) -> bool:
        """Whether the mode ends in aperture photometry."""
        return self.kind == "imaging"


MODES: dict[str, Mode] = {
    m.exp_type: m
    for m in (
        Mode("NRC_TSIMAGE", "imaging", 0),
        Mode("MIR_IMAGE", "imaging", 0, needs_tsovisit=True),
        Mode("NRC_TSGRISM", "spectroscopy", 1),
        Mode("NRS_BRIGHTOBJ", "spectroscopy", 1, detector_columns=True),
        Mode("NIS_SOSS", "spectroscopy", 1),
        Mode("MIR_LRS-SLITLESS", "spectroscopy", 2),
        Mode("MIR_MRS", "spectroscopy", 2, needs_tsovisit=True),
    )
}
"""Modes that this version reduces, by EXP_TYPE."""


def mode_of(exp_type: str | None, tsovisit: bool = False) -> Mode | None:
    """
    Return the mode of an exposure, or None if it is not a time series that this version reduces.

    Parameters
    ----------
    exp_type : str or None
        EXP_TYPE keyword.
    tsovisit : bool, optional
        TSOVISIT keyword; decides for the types that are also used outside time series.

    Returns
    -------
    mode : Mode or None
        None for any other exposure type.

    Examples
    --------
    >>> from tso3.modes import mode_of
    >>> mode_of("NRS_BRIGHTOBJ").dispersion_axis
    1
    >>> mode_of("MIR_IMAGE") is None
    True
    >>> mode_of("MIR_IMAGE", tsovisit=True).kind
    'imaging'
    """
    mode = MODES.get((exp_type or "").upper())
    if mode is not None and mode.needs_tsovisit and not tsovisit:
        return None
    return mode

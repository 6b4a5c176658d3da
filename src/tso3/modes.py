"""The time-series modes: one row per EXP_TYPE, from which everything else about a mode is derived."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MODES", "STEPS", "Mode", "is_target_acquisition", "mode_of", "refusal"]

STEPS = ("outlier_detection", "tso_photometry", "pixel_replace", "extract_1d", "photom", "white_light")
"""Steps of stage 3 in their order, as the figure of calwebb_tso3 in the JWST documentation has them."""

_IMAGING = ("outlier_detection", "tso_photometry")
_SPECTRA = ("outlier_detection", "pixel_replace", "extract_1d", "white_light")


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
    name : str
        What observers call it.
    infrared : str
        ``"near"`` or ``"mid"``.
    steps : tuple of str
        Those of `STEPS` that apply; some of them are skipped unless asked for (see their ``skip`` parameters).
    needs_tsovisit : bool
        True if the EXP_TYPE alone does not make it a time series; TSOVISIT must be true.
    detector_columns : bool
        True if the archive names white-light columns after the detector even when there is only one.
    mixed_filters : bool
        True if the exposures of one observation may differ in FILTER.
    in_jwst : bool
        True if stage 3 of the jwst package reduces it.
    """

    exp_type: str
    kind: str
    dispersion_axis: int
    name: str
    infrared: str
    steps: tuple[str, ...]
    needs_tsovisit: bool = False
    detector_columns: bool = False
    mixed_filters: bool = False
    in_jwst: bool = True

    @property
    def is_imaging(self) -> bool:
        """Whether the mode ends in aperture photometry."""
        return self.kind == "imaging"


MODES: dict[str, Mode] = {
    m.exp_type: m
    for m in (
        Mode("NRC_TSIMAGE", "imaging", 0, "NIRCam imaging", "near", _IMAGING),
        Mode("MIR_IMAGE", "imaging", 0, "MIRI imaging", "mid", _IMAGING, needs_tsovisit=True),
        Mode("NRC_TSGRISM", "spectroscopy", 1, "NIRCam grism", "near", _SPECTRA),
        Mode("NRS_BRIGHTOBJ", "spectroscopy", 1, "NIRSpec bright object", "near", _SPECTRA, detector_columns=True),
        Mode(
            "NIS_SOSS",
            "spectroscopy",
            1,
            "NIRISS SOSS",
            "near",
            ("outlier_detection", "pixel_replace", "extract_1d", "photom", "white_light"),
            mixed_filters=True,  # F277W exposures, in which order 2 is dark, belong to the visit
        ),
        Mode("MIR_LRS-SLITLESS", "spectroscopy", 2, "MIRI LRS slitless", "mid", _SPECTRA),
        Mode(
            "MIR_MRS",
            "spectroscopy",
            2,
            "MIRI MRS",
            "mid",
            ("outlier_detection", "extract_1d", "white_light"),
            needs_tsovisit=True,
            in_jwst=False,
        ),
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


def is_target_acquisition(exp_type: str | None) -> bool:
    """
    Return whether an exposure is a target acquisition or its confirmation.

    Parameters
    ----------
    exp_type : str or None
        EXP_TYPE keyword.

    Returns
    -------
    acquisition : bool
        True for the ``_TACQ``, ``_TACONFIRM`` and kindred types of any instrument.

    Examples
    --------
    >>> from tso3.modes import is_target_acquisition
    >>> [is_target_acquisition(name) for name in ("NRC_TACQ", "MIR_TACONFIRM", "NRS_WATA", "NIS_SOSS", None)]
    [True, True, True, False, False]
    """
    return (exp_type or "").upper().endswith(("_TACQ", "_TACONFIRM", "_TASLIT", "_WATA", "_MSATA", "_BOTA"))


def refusal(exp_type: str | None) -> str:
    """
    Return why an exposure whose `mode_of` is None cannot be reduced, and what to do.

    Parameters
    ----------
    exp_type : str or None
        EXP_TYPE keyword.

    Returns
    -------
    text : str
        For an error message.

    Examples
    --------
    >>> from tso3.modes import refusal
    >>> refusal("FGS_IMAGE")
    'EXP_TYPE FGS_IMAGE is of the fine guidance sensor, which has no time-series mode; give the science exposures'
    """
    if exp_type is None:
        return f"has no EXP_TYPE; it takes {', '.join(MODES)}"
    name = exp_type.upper()
    if name in MODES:
        return f"EXP_TYPE {exp_type} without TSOVISIT = T is not a time series; reduce it as an image"
    if is_target_acquisition(name):
        return f"EXP_TYPE {exp_type} is a target acquisition; mark it so in the association, or leave it out"
    if name.startswith("FGS"):
        return (
            f"EXP_TYPE {exp_type} is of the fine guidance sensor, which has no time-series mode;"
            " give the science exposures"
        )
    return f"EXP_TYPE {exp_type} is not reduced by tso3; it takes {', '.join(MODES)}"

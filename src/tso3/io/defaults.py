"""
Built-in apertures: what is extracted where neither the user nor CRDS gives an extract1d reference.

One table, with the source of every number.
"""

from __future__ import annotations

from dataclasses import fields

from tso3.io.ifu_apertures import BUILT_IN as MRS_APERTURES
from tso3.io.reference_files import Aperture1D

__all__ = ["APERTURES", "OF_SUBARRAY", "OTHERS", "SOURCES", "STRIPE", "apertures_of", "described"]

APERTURES: dict[str, tuple[Aperture1D, ...]] = {
    "NRS_BRIGHTOBJ": (
        Aperture1D(
            id="ANY",
            dispaxis=1,
            extract_width=13.0,
            use_source_posn=True,
            bkg_offsets=((-32.0, -8.0), (8.0, 32.0)),
            bkg_fit="poly",
            bkg_order=0,
        ),
    ),
    "NRC_TSGRISM": (
        Aperture1D(
            id="ANY",
            dispaxis=1,
            ystart=26.0,
            ystop=42.0,
            bkg_offsets=((-30.0, -9.0), (9.0, 29.0)),
            bkg_fit="poly",
            bkg_order=0,
        ),
    ),
    "MIR_LRS-SLITLESS": (
        Aperture1D(
            id="ANY",
            dispaxis=2,
            xstart=30.0,
            xstop=41.0,
            use_source_posn=False,
            bkg_offsets=((-23.0, -11.0), (11.0, 23.0)),
            bkg_fit="poly",
            bkg_order=0,
        ),
    ),
}
"""Apertures by EXP_TYPE."""

OF_SUBARRAY: dict[tuple[str, str], tuple[Aperture1D, ...]] = {
    ("NRS_BRIGHTOBJ", "SUB512S"): (
        Aperture1D(
            id="ANY",
            dispaxis=1,
            extract_width=9.0,
            use_source_posn=True,
            bkg_offsets=((-16.0, -6.0), (6.0, 16.0)),
            bkg_fit="poly",
            bkg_order=0,
        ),
    ),
}
"""Apertures of subarrays in which those of their mode leave too little room, by EXP_TYPE and SUBARRAY."""

SOURCES: dict[str, str] = {
    "NRS_BRIGHTOBJ": (
        "13 pixels along the WCS trace, background beyond 7 pixels from it: half widths 6 and 7 and order 0 of the"
        " NIRSpec control file that Eureka! distributes (kevin218/Eureka, demos/JWST/S3_nirspec_fs_template.ecf), which"
        " is for the prism; SUB512S has 16 rows, of which that would leave three for the background: there 9 pixels and"
        " 6 pixels away, our choice"
    ),
    "NRC_TSGRISM": (
        "rows 26 to 42, background 9 pixels and more away, rows 4 to 25 and 43 to 63: the source is at row 34 of the"
        " cutout whatever the subarray (jwst 3.0.0, extract_2d for TSGRISM; spacetelescope/jwst issues 1235, 1710),"
        " half width 8 and order 0 as in Eureka!'s NIRCam"
        " control file (kevin218/Eureka, demos/JWST/S3_nircam_wfss_template.ecf); stripes (Dispersed Hartmann Sensor):"
        " our choice, half of the 40 rows of a stripe, since no other program extracts them"
    ),
    "MIR_LRS-SLITLESS": (
        "columns 30 to 41: jwst_miri_extract1d_0006.json, as cited in the JWST documentation; background 11 to 23"
        " pixels from their middle, our choice: slitless data hold the whole sky, which would dilute a transit by half"
    ),
}
"""Where the numbers come from, by EXP_TYPE."""

OTHERS: dict[tuple[str, str], str] = {
    ("pastasoss", "NIS_SOSS"): (
        "unless spectrace is given: orders 1 and 2 of the instrument team's model (Baines et al. 2023,"
        " JWST-STScI-008571, as in pastasoss 1.2.4), order 3 through jwst_niriss_spectrace_0023.fits; rows corrected to"
        " where the light of the exposure is"
    ),
    ("extract1d", "MIR_MRS"): MRS_APERTURES,
}
"""What the built-in default of another kind of reference is and where it is from, by kind and EXP_TYPE."""


STRIPE = Aperture1D(
    id="ANY",
    dispaxis=1,
    extract_width=19.0,
    use_source_posn=False,
    bkg_offsets=((-18.0, -13.0), (13.0, 18.0)),
    bkg_fit="poly",
    bkg_order=0,
)
"""Aperture of a stripe of NIRCam's Dispersed Hartmann Sensor, about the trace of its light: our choice."""


def apertures_of(exp_type: str, subarray: str | None) -> tuple[Aperture1D, ...]:
    """
    Return the built-in apertures for an exposure.

    Parameters
    ----------
    exp_type : str
        EXP_TYPE of the mode.
    subarray : str or None
        SUBARRAY.

    Returns
    -------
    apertures : tuple of Aperture1D
        Empty if there are none for the mode.

    Examples
    --------
    >>> from tso3.io.defaults import apertures_of
    >>> [apertures_of("NRS_BRIGHTOBJ", name)[0].extract_width for name in ("SUB512", "SUB512S")]
    [13.0, 9.0]
    """
    return OF_SUBARRAY.get((exp_type, subarray or ""), APERTURES.get(exp_type, ()))


def described(kind: str, exp_type: str) -> str:
    """
    Return what a built-in default is and where its numbers are from, in words.

    Parameters
    ----------
    kind : str
        Of the reference.
    exp_type : str
        EXP_TYPE of the mode.

    Returns
    -------
    text : str
        One line.

    Examples
    --------
    >>> from tso3.io.defaults import described
    >>> described("extract1d", "MIR_LRS-SLITLESS")[:51]
    'xstart 30, xstop 41, background -23 to -11 and 11 t'
    """
    if (kind, exp_type) in OTHERS:
        return OTHERS[kind, exp_type]
    parts = [_aperture(each) for each in APERTURES[exp_type]]
    for (mode, subarray), apertures in OF_SUBARRAY.items():
        parts += [f"{subarray}: {_aperture(each)}" for each in apertures if mode == exp_type]
    if exp_type == "NRC_TSGRISM":
        parts.append(f"stripes: {_aperture(STRIPE)}")
    return "; ".join([*parts, f"source: {SOURCES[exp_type]}"])


def _aperture(aperture: Aperture1D) -> str:
    """Return the numbers of an aperture, with the archive's keys."""
    shown = []
    for field in fields(aperture):
        value = getattr(aperture, field.name)
        if value is None or value == field.default or field.name in ("id", "dispaxis", "bkg_offsets"):
            continue
        shown.append(f"{field.name} {value:g}" if isinstance(value, float) else f"{field.name} {value}".lower())
    regions = " and ".join(f"{low:g} to {high:g}" for low, high in aperture.bkg_offsets or ())
    if regions:
        at = next((i for i, text in enumerate(shown) if text.startswith("bkg_")), len(shown))
        shown.insert(at, f"background {regions} pixels from the middle")
    return ", ".join(shown)

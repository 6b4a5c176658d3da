"""
The kinds of reference files: which modes use them, what they hold, and where there is a built-in default.

A kind is declared here once; the options ``--override-KIND``, ``tso3 references``, `tso3.run` and the pages of the
documentation follow. Nothing heavy is imported: the command line reads this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from tso3.modes import MODES

__all__ = ["KINDS", "Kind", "kinds_of"]


@dataclass(frozen=True)
class Kind:
    """
    One kind of reference file.

    Attributes
    ----------
    name : str
        As the archive calls it; ``--override-NAME`` gives a file of it.
    holds : str
        What is in it and its format, in a few words.
    modes : tuple of str
        EXP_TYPEs that can use it.
    crds : tuple of str
        Those of them for which CRDS is asked. For the others its files of this kind hold something else than what is
        wanted here, or jwst does not use them; a file that the user gives is used.
    built_in : tuple of str
        Those of them with a default in tso3 where there is no file.
    without : str
        What happens where there is neither a file nor a default.
    """

    name: str
    holds: str
    modes: tuple[str, ...]
    crds: tuple[str, ...] = ()
    built_in: tuple[str, ...] = ()
    without: str = ""


_IMAGING = tuple(name for name, mode in MODES.items() if mode.is_imaging)
_SPECTRA = tuple(name for name, mode in MODES.items() if not mode.is_imaging)
_SLITS = tuple(name for name in _SPECTRA if name not in ("NIS_SOSS", "MIR_MRS"))
_CORRECTED = tuple(name for name in _SPECTRA if name != "MIR_MRS")
"""Modes with an aperture correction; that of the MRS is for cubes."""
_SOSS = ("NIS_SOSS",)
_BOX = "box extraction needs none"

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "extract1d",
            "Apertures of extraction (JSON, ASDF)",
            (*_SLITS, "MIR_MRS"),
            crds=(*_SLITS, "MIR_MRS"),
            built_in=(*_SLITS, "MIR_MRS"),
        ),
        Kind("apcorr", "Aperture correction (FITS)", _CORRECTED, crds=_SLITS, without="no aperture correction"),
        Kind("gain", "Detector gain (FITS)", _IMAGING, crds=_IMAGING, without="DN/s stay DN/s; MJy/sr need none"),
        Kind(
            "wavelengthrange",
            "Range of the white light (ASDF)",
            _SPECTRA,
            crds=_SOSS,  # for the others CRDS holds what stage 2 cuts out; jwst reads it for SOSS only
            without="the white light takes every wavelength of the spectrum, of SOSS those where an order stands alone",
        ),
        Kind("pastasoss", "Traces and wavelengths of SOSS (ASDF)", _SOSS, crds=_SOSS, built_in=_SOSS),
        Kind("specprofile", "Spatial profiles of SOSS (FITS)", _SOSS, crds=_SOSS, without=_BOX),
        Kind("speckernel", "Spectral kernels of SOSS (FITS)", _SOSS, crds=_SOSS, without=_BOX),
        Kind("photom", "Flux calibration of SOSS (FITS)", _SOSS, crds=_SOSS, without="spectra stay in DN/s"),
        Kind("spectrace", "Traces of SOSS, the older layout (FITS)", _SOSS, without="see pastasoss"),
        Kind("wavemap", "Wavelengths of SOSS, the older layout (FITS)", _SOSS, without="see pastasoss"),
        Kind(
            "tsophot",
            "Radii of photometry, the older layout (JSON, ASDF)",
            _IMAGING,
            without="radii by instrument and weak lens are built in",
        ),
    )
}
"""All kinds, by name."""


def kinds_of(exp_type: str) -> tuple[Kind, ...]:
    """
    Return the kinds of reference files that a mode can use.

    Parameters
    ----------
    exp_type : str
        EXP_TYPE of the mode.

    Returns
    -------
    kinds : tuple of Kind
        In the order of `KINDS`.

    Examples
    --------
    >>> from tso3.io.reference_kinds import kinds_of
    >>> [kind.name for kind in kinds_of("MIR_LRS-SLITLESS")]
    ['extract1d', 'apcorr', 'wavelengthrange']
    """
    return tuple(kind for kind in KINDS.values() if exp_type in kind.modes)

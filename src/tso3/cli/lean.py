"""Libraries without what the command has no use for; only the command's own process is told so, never a user's."""

from __future__ import annotations

from contextlib import suppress

__all__ = ["import_lean"]


def import_lean() -> None:
    """Import numba, and prepare the import of astropy's tables, without the packages that neither needs here."""
    _numba_without_scipy()
    _tables_without_asdf()


def _numba_without_scipy() -> None:
    """
    Import numba, with the functions that kernels may call, but not scipy's linear algebra.

    numba looks whether there is a BLAS, to choose between two ways of ``np.convolve``, by importing scipy.linalg: 0.2 s
    of processor time. No kernel here convolves, so it is told that there is none. ``np.dot`` and the like look again
    when they are compiled, and find it.
    """
    from numba.np import linalg

    asked = getattr(linalg, "ensure_blas", None)
    if asked is None:  # another version of numba, which asks in another way: it may find scipy
        return

    def no_blas() -> None:
        raise ImportError

    linalg.ensure_blas = no_blas
    try:
        import numba.np.arraymath  # noqa: F401  # asks when it is imported
    finally:
        linalg.ensure_blas = asked


def _tables_without_asdf() -> None:
    """Tell astropy that its tables will not be written as ASDF; it would import asdf, 0.2 s of processor time."""
    with suppress(ImportError):  # another version of astropy, which may import asdf
        from astropy.utils.compat import optional_deps

        optional_deps.HAS_ASDF_ASTROPY = False

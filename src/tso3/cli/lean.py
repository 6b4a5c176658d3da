"""Libraries without what the command has no use for."""

from __future__ import annotations

__all__ = ["import_numba"]


def import_numba() -> None:
    """
    Import numba, with the functions that kernels may call, but not scipy's linear algebra.

    numba looks whether there is a BLAS, to choose between two ways of ``np.convolve``, by importing scipy.linalg: 0.2 s
    of processor time, of 2.5 of a small run. No kernel here convolves, so the command, whose process runs no others,
    tells it that there is none. ``np.dot`` and the like look again when they are compiled, and find it.
    """
    from numba.np import linalg

    asked = linalg.ensure_blas

    def no_blas() -> None:
        raise ImportError

    linalg.ensure_blas = no_blas
    try:
        import numba.np.arraymath  # noqa: F401  # asks when it is imported
    finally:
        linalg.ensure_blas = asked

"""Slow, obvious versions of the kernels of the time axis, one pixel and one window at a time."""

from __future__ import annotations

import numpy as np


def slow_median(samples, dtype):
    """Median of a few valid samples; the mean of the middle two is taken in `dtype`."""
    ordered = sorted(samples)
    n = len(ordered)
    if n % 2:
        return dtype(ordered[n // 2])
    return dtype((dtype(ordered[n // 2 - 1]) + dtype(ordered[n // 2])) * dtype(0.5))


def slow_window(values, bad, lo, hi, policy, min_valid):
    """The samples of one window that take part; None if there is no median."""
    use = [t for t in range(lo, hi) if not bad[t] and not np.isnan(values[t])]
    return use if len(use) >= (min_valid if policy == "skip" else hi - lo) else None


def slow_outliers(data, err, mask, lo, hi, snr, maxiters, policy, min_valid, flag_masked):
    """What flag_outliers returns, for all integrations: outlier, median."""
    n_int, ny, nx = data.shape
    dtype = np.float32 if policy == "skip" else np.float64
    outlier = np.zeros(data.shape, bool)
    median = np.full(data.shape, np.nan, dtype)
    snr = np.float32(snr)
    with np.errstate(all="ignore"):
        for y, x in np.ndindex(ny, nx):
            values, bad = data[:, y, x], mask[:, y, x]
            threshold = snr * np.where(np.isnan(err[:, y, x]), np.float32(0), err[:, y, x])
            for i in range(n_int):
                use = slow_window(values, bad, lo[i], hi[i], policy, min_valid)
                if use is None:
                    continue
                least = min_valid if policy == "skip" else 1
                centre = slow_median([values[t] for t in use], dtype)
                for _ in range(maxiters - 1):
                    kept = [t for t in use if not abs(dtype(values[t]) - centre) > threshold[t]]
                    if len(kept) == len(use) or len(kept) < least:
                        break
                    use = kept
                    centre = slow_median([values[t] for t in use], dtype)
                median[i, y, x] = centre
                judged = flag_masked or not bad[i]
                outlier[i, y, x] = judged and abs(dtype(values[i]) - centre) > threshold[i]
    return outlier, median

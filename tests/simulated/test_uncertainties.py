"""Errors of the white light: every number has one, and residuals outside the transit scatter as they say."""

import numpy as np
import pytest

import tso3
from tso3.simulate import simulate

N_INT = 60
N_SEED = 4
CURVES = {
    "whitelight_flux": ("whitelight_flux_error", "photon_limit"),
    "whitelight_normalized": ("whitelight_normalized_error", "whitelight_normalized_limit"),
}


@pytest.fixture(scope="module")
def draws(tmp_path_factory):
    """White light and truth of short PRISM visits that differ in their seed."""
    found = []
    for seed in range(N_SEED):
        folder = tmp_path_factory.mktemp("draw")
        visit = simulate("NRS_BRIGHTOBJ", folder / "in", configuration="PRISM", n_int=N_INT, seed=100 + seed)
        table = tso3.run(visit.association, folder / "out", parameters={"rectify": {"skip": True}}).white_light
        found.append((table, np.load(next(iter(visit.truths.values())))["white_light"]))
    return found


@pytest.mark.parametrize("name", CURVES)
def test_residuals_outside_the_transit_scatter_as_their_errors_say(draws, name):
    time = np.arange(N_INT) - 0.5 * (N_INT - 1)
    outside = np.abs(time) > 0.24 * N_INT
    chi2, freedom = 0.0, 0
    for table, truth in draws:
        flux, error = (np.asarray(getattr(table[f"{each}_NRS1"], "value", table[f"{each}_NRS1"]))[outside]
                       for each in (name, CURVES[name][0]))  # fmt: skip
        level = truth[outside]
        line = np.polyfit(time[outside], flux / level, 1, w=level / error)
        chi2 += (((flux / level - np.polyval(line, time[outside])) * level / error) ** 2).sum()
        freedom += outside.sum() - 2
    slack = 2.0 * np.sqrt(2.0 / freedom)
    assert 0.95 - slack < chi2 / freedom < 1.05 + slack


@pytest.mark.parametrize("name", CURVES)
def test_every_light_curve_has_its_error_and_its_limit(draws, name):
    table, _ = draws[0]
    columns = [table[f"{each}_NRS1"] for each in (name, *CURVES[name])]
    flux, error, limit = (np.asarray(getattr(column, "value", column)) for column in columns)
    assert len({str(getattr(column, "unit", None)) for column in columns}) == 1
    assert (error >= 0.999 * limit).all()  # what is missing costs, and nothing is gained
    assert 1e-4 < np.median(error / flux) < 1e-3
    told = {column for column in table.colnames if column.endswith("_NRS1")}
    known = {"MJD_UTC", "BJD_TDB", "n_valid", "missing_fraction", "whitelight_flux_error_flat"}
    known |= {f"{name}_error_correlated" for name in CURVES}
    known |= {each for name, others in CURVES.items() for each in (name, *others)}
    assert told == {f"{each}_NRS1" for each in known}

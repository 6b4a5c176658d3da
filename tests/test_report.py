"""Figures: what is drawn has the values that were given, and files are images."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from tso3.cli.summary import print_summary
from tso3.core.light_noise import noise_measures
from tso3.report import BoxAperture, CircularAperture, light_curves, plot_median_image, plot_spectrum, plot_white_light
from tso3.report.files import write_light_curve, write_noise
from tso3.report.light_curve import bin_in_time
from tso3.report.noise import plot_time_averaging
from tso3.report.style import figure
from tso3.result import ExposureSummary, RunResult


def summary(detector, scatter=200.0, limit=180.0):
    return ExposureSummary("jw_" + detector.lower(), detector, 200, 10, (0,) * 200, scatter, limit, 0.0)


@pytest.fixture
def table():
    rng = np.random.default_rng(1)
    time = 59791.1 + np.arange(200) / 2000
    flux = np.where(abs(np.arange(200) - 100) < 40, 0.99, 1.0)
    columns = {}
    for k, detector in enumerate(("NRS1", "NRS2"), 2):
        columns |= {
            f"MJD_UTC_{detector}": time,
            f"BJD_TDB_{detector}": time + 0.003,
            f"whitelight_flux_{detector}": k * (flux + rng.normal(0, 2e-4, 200)) * u.Jy,
            f"whitelight_flux_error_{detector}": np.full(200, k * 2e-4) * u.Jy,
        }
    return QTable(columns)


def test_light_curves_of_two_detectors(table):
    curves = light_curves(table, [summary("NRS1"), summary("NRS2", 300.0, np.nan)])
    assert [curve.label for curve in curves] == ["NRS1", "NRS2"]
    assert [curve.scatter_ppm for curve in curves] == [200.0, 300.0]
    for detector, curve in zip(("NRS1", "NRS2"), curves, strict=True):
        assert curve.time_name == "BMJD_TDB"
        assert abs(np.median(curve.flux[:20]) - 1.0) < 1e-4
        np.testing.assert_allclose(curve.error, 2e-4, rtol=1e-3)
        given = table[f"whitelight_flux_{detector}"].value
        np.testing.assert_allclose(curve.flux / curve.flux[0], given / given[0])


def test_orders_and_missing_times():
    nan = np.full(4, np.nan)
    flux = [2.0, np.nan, 2.0, 2.0]
    table = QTable({"MJD_UTC": nan, "BJD_TDB": nan, "whitelight_flux_order_1": flux, "whitelight_flux_order_2": flux})
    first, second = light_curves(table, [summary("NIS")])
    assert (first.label, second.label) == ("NIS order 1", "NIS order 2")
    assert first.time_name == "integration"
    np.testing.assert_array_equal(first.time, [1, 2, 3, 4])
    np.testing.assert_array_equal(first.flux, [1, np.nan, 1, 1])
    assert np.isnan(first.scatter_ppm)


def test_photometry_is_net_of_background_where_that_is_known():
    table = QTable({"MJD": [1.0, 2.0], "aperture_sum": [3.0, 3.0], "net_aperture_sum": [2.0, 1.0]})
    (curve,) = light_curves(table)
    assert curve.flux[1] / curve.flux[0] == 0.5
    table["net_aperture_sum"] = np.nan
    (curve,) = light_curves(table)
    np.testing.assert_array_equal(curve.flux, 1.0)


def test_bins_keep_the_mean_and_shrink_the_error(table):
    curve = light_curves(table)[0]
    time, flux, error = bin_in_time(curve, 20)
    assert time.size == flux.size == error.size == 20
    np.testing.assert_allclose(flux.mean(), curve.flux.mean())
    np.testing.assert_allclose(error, curve.error[0] / np.sqrt(10), rtol=1e-6)


def test_white_light_axes(table):
    with figure() as page:
        ax = page.subplots()
        artists = plot_white_light(ax, light_curves(table, [summary("NRS1"), summary("NRS2")]), mid_transit=59791.15)
        assert len(artists) == 4
        assert ax.get_xlabel() == "time from mid-transit [h]"
        assert [t.get_text() for t in ax.get_legend().get_texts()] == [
            "NRS1: 200 ppm (photon limit 180 ppm)",
            "NRS2: 200 ppm (photon limit 180 ppm)",
        ]
        x, y = artists[0].get_data()
        np.testing.assert_allclose(x[0], 24 * (59791.103 - 59791.15), atol=1e-6)
        assert abs(np.median(y[:20]) - 1) < 1e-4


def test_nothing_to_draw_but_nan():
    table = QTable({"BJD_TDB": np.arange(3.0), "whitelight_flux": np.full(3, np.nan)})
    with figure() as page:
        ax = page.subplots()
        plot_white_light(ax, light_curves(table))
        assert ax.get_xlabel() == "BMJD_TDB − 0 [day]"


def test_detector_figures():
    image = np.outer(np.exp(-0.5 * ((np.arange(16) - 8) / 1.5) ** 2), np.ones(64))
    image[3, 3] = np.nan
    columns = np.arange(64.0)
    box = BoxAperture(columns, np.full(64, 4.5), np.full(64, 11.5))
    with figure() as page:
        ax = page.subplots()
        shown, lower, upper, circle = plot_median_image(
            ax, image, [box, CircularAperture(5, 6, 3, "annulus")], unit="MJy"
        )
        assert shown.get_array().shape == (16, 64)
        np.testing.assert_array_equal(lower.get_ydata(), 4.5)
        np.testing.assert_array_equal(upper.get_xdata(), columns)
        assert circle.get_radius() == 3
        line, band = plot_spectrum(page.add_subplot(), columns, columns, columns / 10, label="NRS1")
        np.testing.assert_array_equal(line.get_ydata(), columns)
        assert band.get_label() != "NRS1"
        page.canvas.draw()


def test_figure_beside_its_table(table, tmp_path):
    products = {"whtlt": [tmp_path / "jw_whtlt.ecsv"]}
    result = RunResult(products, (summary("NRS1"), summary("NRS2")), table, 1.0, 10**8)
    path = write_light_curve(result)
    assert path == tmp_path / "jw_whtlt.png"
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [p.name for p in tmp_path.iterdir()] == ["jw_whtlt.png"]
    assert write_light_curve(RunResult({}, (), None, 1.0, 10**8)) is None


def test_settings_of_matplotlib_are_left_alone(table, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_light_curve(RunResult({"whtlt": [tmp_path / "a.ecsv"]}, (), table, 1.0, 10**8))
    assert dict(matplotlib.rcParams) == before


def test_spectra_in_different_units_are_drawn_relative_to_their_maximum():
    from xarray import Dataset

    from tso3.report.files import _plot_median_spectra

    def dataset(unit, level):
        flux = level * np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 1.0]])
        return Dataset({"flux": (("time", "wave"), flux, {"units": unit}), "wavelength": ("wave", [1.0, 2.0, 3.0])})

    with figure() as page:
        one, other = page.subplots(2)
        _plot_median_spectra(one, {"order 1": dataset("MJy", 1e-9), "order 3": dataset("DN/s", 50.0)})
        assert one.get_ylabel() == "flux / maximum of each"
        for line in one.get_lines():
            np.testing.assert_allclose(line.get_ydata(), [0.5, 1.0, 0.5])
        _plot_median_spectra(other, {"order 1": dataset("MJy", 3.0), "order 2": dataset("MJy", 50.0)})
        assert other.get_ylabel() == "flux [MJy]"
        np.testing.assert_allclose(other.get_lines()[0].get_ydata(), [3.0, 6.0, 3.0])


def test_time_averaging_is_drawn_as_it_was_measured(tmp_path, table):
    measures = {"NRS1": noise_measures(np.asarray(table["whitelight_flux_NRS1"].value), np.full(200, 1.6e-7))}
    curve = measures["NRS1"].averaging
    with figure() as page:
        ax = page.subplots()
        points, white, limit = plot_time_averaging(ax, measures)
        np.testing.assert_allclose(points[0].get_xydata(), np.stack([curve.size, 1e6 * curve.scatter], axis=1))
        np.testing.assert_allclose(white.get_ydata(), 1e6 * curve.expected)
        np.testing.assert_allclose(limit.get_ydata(), 1e6 * measures["NRS1"].photon_limit / np.sqrt(curve.size))
        page.canvas.draw()
        assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1 - 1.0  # above, not over the lines
    table.meta["noise"] = {"whitelight_flux_NRS1": measures["NRS1"].as_dict()}
    made = RunResult({"whtlt": [tmp_path / "jw_whtlt.ecsv"]}, (summary("NRS1"),), table, 1.0, 0)
    assert write_noise(made) == tmp_path / "jw_noise.png"
    assert (tmp_path / "jw_noise.png").read_bytes().startswith(b"\x89PNG")


def test_the_summary_has_the_limit_of_every_light_curve(table, capsys):
    flux = np.asarray(table["whitelight_flux_NRS1"].value)
    noise = noise_measures(flux, np.full(200, 1.6e-7))
    table.meta["noise"] = {"whitelight_flux_NRS1": noise.as_dict()}
    print_summary(RunResult({}, (summary("NRS1"),), table, 1.0, 0))
    text = capsys.readouterr().out
    (row,) = [line.split() for line in text.splitlines() if line.strip().startswith("whitelight_flux_NRS1")]
    measured = [noise.standard_deviation, noise.robust_scatter, noise.point_to_point, noise.photon_limit]
    assert [float(cell) for cell in row[2:6]] == [round(1e6 * value) for value in measured]
    assert float(row[6]) == pytest.approx(noise.ratio, abs=0.006)
    head = text[text.index("noise outside the transit") : text.index("whitelight_flux_NRS1")]
    assert "limit" in head
    assert "ratio" in head

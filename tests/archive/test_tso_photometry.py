"""The photometry step alone beside ``jwst.tso_photometry`` 3.0.0: the same images, every column."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tso3.core.block import Block
from tso3.io.exposure import read_exposures
from tso3.io.reader import Reader
from tso3.io.references import Reference, References
from tso3.parameters import preset
from tso3.steps import tso_photometry

pytestmark = pytest.mark.jwst

N_INT, SIZE = 7, 64
ERRORS = {"net_aperture_sum": "net_aperture_sum_err", "aperture_sum": "aperture_sum_err"}


@dataclass(frozen=True)
class Scene:
    """A star on a background, and what is done to it."""

    flux: float = 4e4
    x: float = 33.2
    y: float = 30.6
    sigma: float = 1.1
    background: float = 12.0
    noise: float = 3.0
    jitter: float = 0.05
    unit: str = "MJy/sr"
    subarray: str = "SUB64P"
    pupil: str = "CLEAR"
    planned: tuple[float, float] = (33.0, 31.0)
    holes: tuple[tuple[int, slice, slice], ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)


ALL = slice(None)
SCENES = {
    "fixed": Scene(),
    "moving": Scene(parameters={"moving_centroid": True}),
    "planned position": Scene(parameters={"centroid_source": False}),
    "other radii": Scene(parameters={"radius": 5.7, "radius_inner": 8.2, "radius_outer": 11.9}),
    "even boxes": Scene(parameters={"search_box_width": 20, "fit_box_width": 8}),
    "core pixel missing": Scene(holes=((2, slice(31, 32), slice(33, 34)), (3, slice(31, 32), slice(33, 34)))),
    "hole": Scene(holes=((4, slice(28, 34), slice(30, 36)),)),
    "hole in the annulus": Scene(holes=((1, slice(27, 29), ALL), (5, slice(35, 36), slice(30, 40)))),
    "nothing left of one": Scene(holes=((6, ALL, ALL),)),
    "nothing left at all": Scene(holes=((ALL, ALL, ALL),)),
    "millijansky": Scene(flux=0.5, background=0.01, noise=2e-3, sigma=1.6),
    "noise only": Scene(flux=0.0),
    "undersampled": Scene(sigma=0.35, flux=1e5),
    "wide": Scene(sigma=3.5, flux=1e6),
    "DN/s": Scene(unit="DN/s", flux=3e3),
    "unknown unit": Scene(unit="mJy", flux=3e3),
    "at the edge": Scene(x=1.4, y=62.2, planned=(3.0, 61.0)),
    "planned outside": Scene(planned=(-4.0, 30.0)),
    "aperture outside": Scene(planned=(-40.0, 30.0), parameters={"centroid_source": False}),
    "weak lens": Scene(pupil="WLP8", sigma=14.0, flux=1e7),
    "weak lens with holes": Scene(pupil="WLP8", sigma=14.0, flux=1e7, holes=((2, slice(20, 40), slice(20, 30)),)),
    "large annulus": Scene(
        sigma=8.0, flux=1e6, parameters={"radius": 50.0, "radius_inner": 60.0, "radius_outer": 70.0}
    ),
}


def images(scene: Scene, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stack and errors."""
    from scipy.special import erf

    rng = np.random.default_rng(seed)
    edges = np.arange(SIZE + 1) - 0.5
    data = np.full((N_INT, SIZE, SIZE), scene.background)
    for image in data:
        x, y = rng.normal((scene.x, scene.y), scene.jitter)
        for share, wide in ((0.9, 1.0), (0.1, 3.0)):
            profile = [np.diff(erf((edges - at) / (wide * scene.sigma * 2**0.5))) / 2 for at in (y, x)]
            image += scene.flux * share * np.outer(*profile)
    err = np.sqrt(scene.noise**2 + 1e-4 * np.abs(data))
    data += rng.normal(size=data.shape) * err
    for i, rows, columns in scene.holes:
        data[i, rows, columns] = err[i, rows, columns] = np.nan
    return data.astype(np.float32), err.astype(np.float32)


def make_model(scene: Scene, segment: int):
    """A CubeModel of one segment of two."""
    from astropy import coordinates, units
    from astropy.modeling import models
    from gwcs import WCS, coordinate_frames
    from stdatamodels.jwst.datamodels import CubeModel

    data, err = images(scene, segment)
    model = CubeModel(data=data, err=err, dq=np.isnan(data).astype(np.uint32))
    model.var_poisson, model.var_rnoise = 0.9 * err**2, 0.1 * err**2
    model.var_flat = np.zeros_like(err)
    meta = model.meta
    meta.telescope = "JWST"
    meta.exposure.type, meta.visit.tsovisit = "NRC_TSIMAGE", True
    meta.instrument.name, meta.instrument.detector, meta.instrument.channel = "NIRCAM", "NRCB1", "SHORT"
    meta.instrument.filter, meta.instrument.pupil = "F210M", scene.pupil
    meta.subarray.name = scene.subarray
    meta.subarray.xstart, meta.subarray.ystart, meta.subarray.xsize, meta.subarray.ysize = 11, 21, SIZE, SIZE
    meta.target.catalog_name = "STAR"
    meta.observation.program_number, meta.observation.observation_number = "01366", "002"
    meta.observation.visit_number, meta.observation.exposure_number = "001", "00001"
    meta.exposure.nints, meta.exposure.integration_start = 2 * N_INT, segment * N_INT + 1
    meta.exposure.integration_end, meta.exposure.segment_number = (segment + 1) * N_INT, segment + 1
    meta.exposure.integration_time, meta.exposure.group_time = 21.4, 1.0
    meta.bunit_data = meta.bunit_err = scene.unit
    meta.photometry.pixelarea_steradians = 2.29e-14
    meta.wcsinfo.siaf_xref_sci, meta.wcsinfo.siaf_yref_sci = (at + 1 for at in scene.planned)
    sky = coordinate_frames.CelestialFrame(reference_frame=coordinates.ICRS(), unit=(units.deg, units.deg))
    detector = coordinate_frames.Frame2D(name="detector", unit=(units.pix, units.pix))
    transform = models.Scale(8e-6) & models.Scale(8e-6) | models.Shift(217.3) & models.Shift(0.67)
    meta.wcs = WCS([(detector, transform), (sky, None)])
    rows = [
        (k, *(59790.0 + k * 1e-3 + shift + late for shift in (0.0, 4e-3) for late in (0.0, 2e-4, 4e-4)))
        for k in range(1, 2 * N_INT + 1)
    ]
    model.int_times = np.array(rows, dtype=model.get_dtype("int_times"))
    return model


@pytest.fixture
def gain(tmp_path):
    """A gain reference of a larger subarray."""
    from stdatamodels.jwst.datamodels import GainModel

    with GainModel(np.random.default_rng(9).normal(1.8, 0.05, (90, 80)).astype(np.float32)) as model:
        model.meta.instrument.name = "NIRCAM"
        model.meta.subarray.xstart, model.meta.subarray.ystart = 6, 11
        model.meta.subarray.xsize, model.meta.subarray.ysize = 80, 90
        model.save(tmp_path / "gain.fits")
    return tmp_path / "gain.fits"


def jwst_tables(models, gain, parameters):
    """Run the reference pipeline's step on every segment and stack the tables, as the pipeline does."""
    from astropy.table import vstack
    from jwst.tso_photometry import TSOPhotometryStep

    step = TSOPhotometryStep()
    step.override_gain = str(gain)
    tables = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model in models:
            for name, value in parameters.items():
                setattr(step, name, value)
            tables.append(step.process(model))
        return vstack(tables) if len(tables) > 1 else tables[0]


def blocks(exposure, size):
    """Cut an exposure into blocks that end where segments end."""
    for first, last in exposure.segment_bounds:
        for start in range(first, last, size):
            stop = min(start + size, last)
            with Reader(exposure) as reader:
                raw = reader.read(start, stop)
            planes = {name: raw[name].astype(raw[name].dtype.newbyteorder("=")) for name in raw if name != "DQ"}
            mask = ~np.isfinite(planes["SCI"])
            variances = (planes["VAR_POISSON"], planes["VAR_RNOISE"], planes["VAR_FLAT"])
            yield Block(start, planes["SCI"], planes["ERR"], None, mask, *variances)


def our_table(paths, gain, parameters, model=None, size=3, preset_name="archive"):
    """Run our step on the same files."""
    exposure = read_exposures(paths)[0]
    references = References({"gain": Reference("gain", gain, "user")})
    values = preset(preset_name).tso_photometry.model_dump() | parameters
    plan = tso_photometry.prepare(exposure, references, type(preset("archive").tso_photometry)(**values), model)
    while not plan.ready:
        plan = tso_photometry.settle(plan, [tso_photometry.locate(plan, b) for b in blocks(exposure, size)])
    parts = [tso_photometry.run(plan, block) for block in blocks(exposure, size)]
    return tso_photometry.finish(plan, parts, exposure.times)


@pytest.fixture
def both(tmp_path, gain, monkeypatch):
    """Run both on a scene."""
    pytest.importorskip("jwst")
    monkeypatch.setitem(os.environ, "STPIPE_DISABLE_CRDS_STEPPARS", "true")

    def run(scene: Scene, size: int = 3):
        paths, models = [], []
        for segment in range(2):
            model = make_model(scene, segment)
            path = tmp_path / f"jw01366002001_03102_00001-seg00{segment + 1}_nrcb1_calints.fits"
            model.save(path)
            paths.append(path)
            models.append(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            ours = our_table(paths, gain, scene.parameters, size=size)
        return ours, jwst_tables(models, gain, scene.parameters)

    return run


def plain(column):
    """Numbers of a column; what is masked where one segment has no such column is NaN."""
    return np.ma.filled(np.ma.asarray(getattr(column, "unmasked", column), dtype=float), np.nan)


@pytest.mark.parametrize("name", SCENES)
def test_every_column_equals_the_archives(both, name):
    ours, peer = both(SCENES[name])
    table = tso_photometry.catalogue([ours])
    assert [c for c in table.colnames if c in peer.colnames] == peer.colnames
    for column in peer.colnames:
        a, b = (
            plain(table[column].value if hasattr(table[column], "value") else table[column]),
            plain(peer[column].value if hasattr(peer[column], "value") else peer[column]),
        )
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=column)
        scale = np.abs(b)
        if column in ERRORS:
            scale = np.fmax(scale, plain(peer[ERRORS[column]].value))
        worst = np.nanmax(np.abs(a - b) / np.where(scale > 0, scale, 1.0), initial=0.0)
        assert worst <= 1e-6, (column, worst)
        assert str(getattr(table[column], "unit", None)) == str(getattr(peer[column], "unit", None)), column
    for key, value in peer.meta.items():
        assert table.meta[key] == value


@pytest.mark.parametrize("size", [1, 4, N_INT])
def test_blocks_do_not_matter(both, size):
    scene = SCENES["hole"]
    ours, _ = both(scene, size)
    other, _ = both(scene, 3)
    for column in ours.columns:
        np.testing.assert_array_equal(column.values, other[column.name], err_msg=column.name)


def test_15_a_failed_centroid_of_a_moving_aperture_is_a_row_of_nan(both):
    """The reference pipeline dies here ('positions' must not contain nonfinite); ours flags the row."""
    scene = Scene(holes=((3, ALL, ALL),), parameters={"moving_centroid": True})
    with pytest.raises(ValueError, match="finite"):
        both(scene)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(__name__ + ".jwst_tables", lambda *_: None)
        ours, _ = both(scene)
    for name in ("aperture_sum", "net_aperture_sum", "aperture_x", "centroid_x", "psf_flux"):
        assert np.isnan(ours[name][[3, N_INT + 3]]).all()
        assert np.isfinite(np.delete(ours[name], [3, N_INT + 3])).all()
    assert ours["quality"][3] & (4 | 32) == 4 | 32


def test_the_archives_fit_depends_on_the_unit():
    """What ``psf_fit = trf`` copies: a star of 1 mJy given in Jy gets widths that are wrong by several per cent."""
    pytest.importorskip("jwst")
    from jwst.tso_photometry.tso_photometry import _psf_fit_gaussian_prf

    from tso3.core.gaussian import FIT_METHODS, fit_gaussians
    from tso3.core.images import Images

    data, err = images(Scene(flux=1.0, sigma=1.5, background=0.0, noise=1e-4, jitter=0.0), 0)
    mask = np.zeros(data.shape[1:], bool)
    centre, nothing = np.full(1, 33.2), np.zeros(1, np.float32)
    widths = {}
    for factor in (1.0, 1e-3):
        scaled = (data[:1] * np.float32(factor)).astype(np.float32)
        peer = _psf_fit_gaussian_prf(scaled[0], mask, 11, 33.2, 30.6)
        stack = Images.of(scaled, err[:1])
        fits = {n: fit_gaussians(stack, nothing, centre, centre - 2.6, 11, m) for n, m in FIT_METHODS.items()}
        assert abs(fits["trf"].width_x[0] / peer[0] - 1) < 1e-6
        widths[factor] = (peer[0], fits["minimum"].width_x[0])
    assert abs(widths[1.0][0] / widths[1e-3][0] - 1) > 0.02
    assert abs(widths[1.0][1] / widths[1e-3][1] - 1) < 1e-6
    assert abs(widths[1.0][0] / widths[1.0][1] - 1) < 1e-5

"""Radii of photometry: the older reference file, and the built-in table."""

from __future__ import annotations

import json

import pytest

from tso3.errors import ReferenceFileError
from tso3.io.photometry_defaults import SIZES, sizes_of
from tso3.io.photometry_references import PhotometryRadii, read_tsophot

ENTRIES = [
    {"pupil": "WLP8", "radius": 50.0, "radius_inner": 60.0, "radius_outer": 70.0},
    {"pupil": "ANY", "radius": 3.0, "radius_inner": 4.0, "radius_outer": 5.0},
    {"pupil": "any", "radius": 9.0, "radius_inner": 10.0, "radius_outer": 11.0},
    {"pupil": "CLEAR", "filter": "WLP4", "radius": 25, "radius_inner": 30, "radius_outer": 35},
]


@pytest.fixture
def reference(tmp_path):
    def write(content):
        path = tmp_path / "tsophot.json"
        path.write_text(json.dumps(content))
        return path

    return write


def test_22_the_entry_of_the_optics_counts(reference):
    """T22: radii by pupil; an exact pupil comes before ANY, and of several ANY the first."""
    path = reference({"radii": ENTRIES})
    assert read_tsophot(path, "F212N", "WLP8") == PhotometryRadii(50.0, 60.0, 70.0)
    assert read_tsophot(path, "F210M", "CLEAR") == PhotometryRadii(3.0, 4.0, 5.0)
    assert read_tsophot(path, "F1500W", None) == PhotometryRadii(3.0, 4.0, 5.0)
    assert read_tsophot(path, "WLP4", "clear") == PhotometryRadii(25.0, 30.0, 35.0)


def test_as_the_archive_wrote_it(tmp_path):
    from stdatamodels.jwst.datamodels import TsoPhotModel

    path = tmp_path / "tsophot.asdf"
    with TsoPhotModel(radii=ENTRIES[:2]) as model:
        model.meta.instrument.name, model.meta.exposure.type = "NIRCAM", "NRC_TSIMAGE"
        model.meta.telescope, model.meta.useafter, model.meta.author = "JWST", "2018-01-01T00:00:00", "tso3"
        model.meta.description, model.meta.pedigree = "Test", "DUMMY"
        model.save(path)
    assert read_tsophot(path, "F212N", "WLP8") == PhotometryRadii(50.0, 60.0, 70.0)
    assert read_tsophot(path, "F210M", "CLEAR") == PhotometryRadii(3.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"apertures": []}, "holds no list 'radii'"),
        ([], "holds no list 'radii'"),
        ({"radii": "all"}, "holds no list 'radii'"),
        ({"radii": [3]}, "is 3, not a table of keys"),
        ({"radii": ENTRIES[:1]}, "has no radii for pupil CLEAR and filter F210M; set tso_photometry.radius"),
        ({"radii": [{"pupil": "ANY", "radius": 3.0}]}, "has no radius_inner"),
        ({"radii": [ENTRIES[1] | {"radius": "three"}]}, "no number"),
        ({"radii": [ENTRIES[1] | {"radius_inner": 6.0}]}, "an inner below the outer"),
        ({"radii": [ENTRIES[1] | {"radius": 0.0}]}, "a positive one"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(reference, content, message):
    path = reference(content)
    with pytest.raises(ReferenceFileError, match=message) as error:
        read_tsophot(path, "F210M", "CLEAR")
    assert path.name in str(error.value)


@pytest.mark.parametrize(
    ("optics", "name"),
    [
        (("NIRCAM", "F212N", "WLP8"), "NIRCam, weak lens of 8 waves"),
        (("NIRCAM", "F212N", "wlm8"), "NIRCam, weak lens of 8 waves"),
        (("NIRCAM", "WLP4", "CLEAR"), "NIRCam, weak lens of 4 waves"),
        (("NIRCAM", "F210M", "CLEAR"), "NIRCam in focus"),
        (("MIRI", "F1500W", None), "MIRI"),
    ],
)
def test_built_in_sizes(optics, name):
    assert sizes_of(*optics).name == name


def test_built_in_sizes_make_sense():
    for _, sizes in SIZES:
        assert 0 < sizes.radius <= sizes.radius_inner < sizes.radius_outer
        assert sizes.search_box_width % 2 == sizes.fit_box_width % 2 == 1
        assert sizes.fit_box_width >= 2 * sizes.radius
        assert len(sizes.source) > 20

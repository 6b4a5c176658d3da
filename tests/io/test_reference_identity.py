"""References that have no effect are told and not recorded; those of another instrument or kind are refused."""

from __future__ import annotations

import json

import asdf
import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import ReferenceFileError, Tso3Warning
from tso3.intake import in_use
from tso3.io.exposure import read_observation
from tso3.io.reference_identity import check_identity
from tso3.io.references import Reference, References, find_references
from tso3.parameters import Parameters


def written(path, telescope, instrument, reftype):
    """Write a file that says of itself what it is."""
    if path.suffix == ".json":
        path.write_text(json.dumps({"REFTYPE": reftype, "INSTRUME": instrument, "TELESCOP": telescope}))
    elif path.suffix == ".asdf":
        meta = {"telescope": telescope, "instrument": {"name": instrument}, "reftype": reftype}
        asdf.AsdfFile({"meta": meta}).write_to(path)
    else:
        header = fits.Header({"TELESCOP": telescope, "INSTRUME": instrument, "REFTYPE": reftype})
        fits.PrimaryHDU(np.zeros(3), header).writeto(path)
    return path


@pytest.mark.parametrize("suffix", ["json", "asdf", "fits"])
def test_another_instruments_file_is_refused(tmp_path, suffix):
    good = written(tmp_path / f"good.{suffix}", "JWST", "MIRI", "Extract1d")
    check_identity(good, "extract1d", "MIRI")
    check_identity(good, "extract1d", None)
    for kind, instrument, words in (
        ("extract1d", "NIRSPEC", "of MIRI, but the exposures are of NIRSPEC"),
        ("apcorr", "MIRI", r"of kind extract1d \(REFTYPE\), but is given as apcorr"),
    ):
        with pytest.raises(ReferenceFileError, match=words) as caught:
            check_identity(good, kind, instrument)
        assert "\n" not in str(caught.value)
    with pytest.raises(ReferenceFileError, match="of HST, not of JWST"):
        check_identity(written(tmp_path / f"hst.{suffix}", "HST", "MIRI", "EXTRACT1D"), "extract1d", "MIRI")


def test_a_file_that_says_nothing_is_taken(tmp_path):
    (tmp_path / "a.json").write_text('{"apertures": []}')
    check_identity(tmp_path / "a.json", "extract1d", "MIRI")


def test_what_the_mode_has_no_use_for_is_told_and_not_recorded(segments, tmp_path):
    observation = read_observation(segments)
    aperture = written(tmp_path / "a.json", "JWST", observation.exposures[0].instrument, "EXTRACT1D")
    given = {"extract1d": aperture, "gain": tmp_path / "gain.fits", "tsophot": "N/A"}
    with pytest.warns(Tso3Warning, match=r"gain\.fits: has no effect as gain reference: \S+ has no use for it") as told:
        found = in_use(observation, find_references(observation, given), given, Parameters())
    assert len(told) == 1
    assert set(found.used()) == {"extract1d"}
    skipped = Parameters.model_validate({"extract_1d": {"skip": True}})
    del given["gain"]
    assert in_use(observation, find_references(observation, given), given, skipped).used() == {}


def test_what_nothing_opens_is_told_and_not_recorded(segments, tmp_path):
    observation = read_observation(segments)
    kinds = ("pastasoss", "spectrace", "wavemap", "speckernel")
    given = {kind: tmp_path / f"{kind}.fits" for kind in kinds}
    for kind, path in given.items():
        written(path, "JWST", observation.exposures[0].instrument, kind)
    references = References({kind: Reference(kind, path, "user") for kind, path in given.items()})
    with pytest.warns(Tso3Warning) as told:
        found = in_use(observation, references, given, Parameters())
    texts = [str(warning.message) for warning in told]
    assert [text.split(": ")[1] for text in texts] == [
        f"has no effect as {kind} reference" for kind in ("spectrace", "wavemap", "speckernel")
    ]
    assert set(found.used()) == {"pastasoss"}

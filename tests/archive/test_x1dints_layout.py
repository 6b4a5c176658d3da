"""
The product of spectra, written by our writer from the reference pipeline's own numbers: every card of every header with
its comment and its place, every byte of every table, and the ASDF tree as a tree, but for what is listed here.
"""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import asdf
import numpy as np
import pytest
from astropy.io import fits

from tso3.io.association import read_association
from tso3.io.exposure import read_observation
from tso3.io.metadata import Provenance, ReferenceUse
from tso3.io.x1dints import SpectrumPlan, x1dints_writer
from tso3.io.x1dtable import COMPANION_COLUMNS

pytestmark = [pytest.mark.jwst, pytest.mark.filterwarnings("ignore::ResourceWarning")]

ACCEPTED = {
    "DATE": "date of the run",
    "CAL_VER": "ours keeps the version that made the calints; TSO3VER tells ours",
    "CAL_VCS": "as CAL_VER",
    "CRDS_VER": "ours keeps the input's unless CRDS gave a reference",
    "CRDS_CTX": "as CRDS_VER",
    "EFFEXPTM": "once per exposure; jwst adds up the files",
    "TMEASURE": "once per exposure; jwst adds up the files",
    "DURATION": "once per exposure; jwst adds up the files",
}
"""Keywords whose values may differ, and why. Everything else is equal, or the test fails."""

OURS = ("TSO3VER", "TSO3PSET")
"""Cards that only our PRIMARY has, under a heading at its end."""

ACCEPTED_PATHS = re.compile(
    r"history|asdf_library|_fits_hash|cal_logs\.calwebb_tso3|tso3(\..*)?|meta\.date|spec\[\d+\]\.meta\.date"
    r"|meta\.calibration_software_(version|revision)|meta\.ref_file\.crds\.\w+"
    r"|meta\.exposure\.(exposure_time|measurement_time|duration)"
)
"""The same, in the ASDF tree; besides, the program's own records: library versions, logs, the hash of the headers."""

HEADER = {
    "slit_name": "SLTNAME", "spectral_order": "SPORDER", "dispersion_axis": "DISPAXIS", "detector": "DETECTOR",
    "source_type": "SRCTYPE", "source_id": "SOURCEID", "source_xpos": "SRCXPOS", "source_ypos": "SRCYPOS",
    "source_ra": "SRCRA", "source_dec": "SRCDEC", "extraction_xstart": "EXTRXSTR", "extraction_xstop": "EXTRXSTP",
    "extraction_ystart": "EXTRYSTR", "extraction_ystop": "EXTRYSTP", "slit_ra": "SLIT_RA", "slit_dec": "SLIT_DEC",
    "position_angle": "PA_APER", "wavelength_corrected": "WAVECOR", "flux_unit": "TUNIT3", "sb_unit": "TUNIT8",
}  # fmt: skip

CASES = {"bots": ("NRS_BRIGHTOBJ", 4), "lrs": ("MIR_LRS-SLITLESS", 6)}


def spectra_of(hdu, header, start):
    """Return the numbers of one EXTRACT1D table of the reference pipeline as our extraction would hand them on."""
    names = [column.name for column in hdu.columns if hdu.data[column.name].ndim == 2]
    arrays = {name.lower(): np.asarray(hdu.data[name]).astype("u4" if name == "DQ" else "f8") for name in names}
    arrays |= {column.key: arrays["flux"] for column in COMPANION_COLUMNS if column.vector}
    return SimpleNamespace(start=start, header=header, **{**arrays, "wavelength": arrays["wavelength"][0]})


def replay(visit, peer_product, path, layout):
    """Write what the reference pipeline has measured with our writer."""
    files = read_association(visit.association).paths
    observation = read_observation(visit.association)
    plans, jobs = [], []
    with fits.open(peer_product) as product:
        for exposure in observation.exposures:
            tables = [h for h in product if h.name == "EXTRACT1D" and h.header["DETECTOR"] == exposure.detector]
            header = SimpleNamespace(
                background_unit=None, **{name: tables[0].header.get(key) for name, key in HEADER.items()}
            )
            for name in ("extraction_xstart", "extraction_xstop", "extraction_ystart", "extraction_ystop"):
                setattr(header, name, float(getattr(header, name)))
            plans.append(SpectrumPlan(exposure, header, np.array(tables[0].data["WAVELENGTH"][0], dtype=float)))
            start = 0
            for table in tables:
                jobs.append((exposure.name, spectra_of(table, header, start)))
                start += len(table.data)
        reference = ReferenceUse(product[0].header["R_EXTR1D"], "user")
    with x1dints_writer(
        path,
        observation,
        plans,
        layout=layout,
        source_type_column=layout == "detector",
        steps={"outlier_detection": "COMPLETE", "extract_1d": "COMPLETE"},
        provenance=Provenance("0.1.0", "archive", {}, {"extract1d": reference}),
        files=files,
    ) as writer:
        for job in jobs:
            writer.write(*job)
    return path


@pytest.fixture(scope="module", params=CASES)
def pair(request, visit, peer, tmp_path_factory):
    """Visit, product of the reference pipeline, and ours in the same layout."""
    mode, n_int = CASES[request.param]
    simulated = visit(mode, n_int=n_int, segments=2, seed=3)
    references = {"extract1d": simulated.references["extract1d"]}
    theirs = peer.run(simulated.association, references, {"extract_1d": {"subtract_background": False}})
    assert theirs.error is None, theirs.error
    product = theirs.product("_x1dints.fits")
    return simulated, product, replay(simulated, product, tmp_path_factory.mktemp("ours") / product.name, "segment")


def cards(header):
    """Return value and comment of the cards by keyword; headings by their text."""
    texts = [(card.keyword or str(card.value), (card.value, card.comment)) for card in header.cards]
    return {key: content for key, content in texts if key}


def test_units_and_headers(pair, record_property, capsys):
    _, theirs, ours = pair
    different = {}
    with fits.open(ours) as a, fits.open(theirs) as b:
        assert [(h.name, h.ver) for h in a if not h.name.startswith("TSO3_")] == [(h.name, h.ver) for h in b]
        for peer_hdu in b[:-1]:
            hdu = a[peer_hdu.name, peer_hdu.ver]
            mine, peers = cards(hdu.header), cards(peer_hdu.header)
            extra = {"tso3 information", *OURS} if peer_hdu.name == "PRIMARY" else set()
            assert list(mine)[: len(peers)] == list(peers)
            assert set(list(mine)[len(peers) :]) == extra
            different |= {(hdu.name, key): (mine[key], peers[key]) for key in peers if mine[key] != peers[key]}
    with capsys.disabled():
        for (name, key), (mine, peer_card) in different.items():
            print(f"\n  {name:9} {key:8} ours {mine[0]!r:32} jwst {peer_card[0]!r}", end="")
    widths = {key for name, key in different if name == "HDRTAB" and re.fullmatch(r"NAXIS1|TFORM\d+", key)}
    assert {key for _, key in different} - widths <= set(ACCEPTED)


def test_tables_are_equal_byte_for_byte(pair):
    _, theirs, ours = pair
    with fits.open(ours) as a, fits.open(theirs) as b:
        for hdu in b:
            if hdu.name == "EXTRACT1D":
                assert np.asarray(a[hdu.name, hdu.ver].data).tobytes() == np.asarray(hdu.data).tobytes()


def test_int_times_are_the_first_detectors(pair):
    """Row 17 of the oddities: jwst's are the last detector's."""
    simulated, theirs, ours = pair
    observation = read_observation(simulated.association)
    with fits.open(ours) as a, fits.open(theirs) as b:
        mine, peers = a["INT_TIMES"].data, b["INT_TIMES"].data
        for table, exposure in ((mine, observation.exposures[0]), (peers, observation.exposures[-1])):
            np.testing.assert_array_equal(table["integration_number"], exposure.times.int_num)
            np.testing.assert_array_equal(table["int_mid_MJD_UTC"], exposure.times.mid_mjd_utc)
            np.testing.assert_array_equal(table["int_end_BJD_TDB"], exposure.times.end_bjd_tdb)
        assert mine.dtype == peers.dtype


def test_table_of_headers(pair):
    _, theirs, ours = pair
    with fits.open(ours) as a, fits.open(theirs) as b:
        mine, peers = a["HDRTAB"].data, b["HDRTAB"].data
        assert mine.names == peers.names
        assert len(mine) == len(peers)
        different = {name for name in peers.names if not np.array_equal(mine[name], peers[name])}
        assert different <= {"DATE", "CAL_VER", "CAL_VCS", "CRDS_VER", "CRDS_CTX"}
        assert mine["DURATION"].tolist() == peers["DURATION"].tolist()


def leaves(node, path=""):
    """Yield the leaves of a tree with their paths; arrays that the file holds as their source and type."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from leaves(value, f"{path}[{i}]")
    elif hasattr(type(node), "_make_array"):
        yield path, (vars(node)["_source"], tuple(node.shape), str(node.dtype))
    else:
        yield path, node


def tree_of(hdu, keep):
    """Open the ASDF tree of a product."""
    keep.append(asdf.open(io.BytesIO(np.asarray(hdu.data).tobytes())))
    return dict(leaves(dict(keep[-1].tree)))


def test_asdf_tree(pair):
    _, theirs, ours = pair
    with fits.open(ours) as a, fits.open(theirs) as b:
        keep = []
        mine, peers = tree_of(a["ASDF"], keep), tree_of(b["ASDF"], keep)
        paths = {path for path in {*mine, *peers} if not ACCEPTED_PATHS.match(path)}
        assert len(paths) > 100
        n_wcs = 0
        for path in sorted(paths):
            one, other = mine[path], peers[path]
            if path.endswith("meta.wcs"):
                n_wcs += 1
                pixel = np.arange(-2.0, 20.0, 0.5)
                np.testing.assert_array_equal(np.array(one(pixel)), np.array(other(pixel)))
                world = other(5.25)
                assert one.backward_transform(*world) == other.backward_transform(*world)
                assert repr(one.forward_transform) == repr(other.forward_transform)
                assert [repr(f) for f in one.pipeline] == [repr(f) for f in other.pipeline]
            elif path == "hdrtab":
                assert one[:2] == other[:2]
            else:
                assert one == other, path
        assert n_wcs == len(peers["spec[0].meta.wcs"] and [p for p in peers if p.endswith("meta.wcs")])
        for file in keep:
            file.close()


def test_opened_saved_and_opened_again_by_the_archives_package(pair, tmp_path):
    from stdatamodels.jwst import datamodels

    _, theirs, ours = pair
    with datamodels.open(ours, strict_validation=True) as model, datamodels.open(theirs) as peer_model:
        model.validate()
        assert type(model) is type(peer_model)
        model.save(str(tmp_path / "saved.fits"))
        assert len(model.spec) == len(peer_model.spec)
    with fits.open(ours) as before, fits.open(tmp_path / "saved.fits") as after:
        for hdu in before:
            if hdu.name.startswith("TSO3_"):
                assert np.asarray(after[hdu.name].data).tobytes() == np.asarray(hdu.data).tobytes()
            elif hdu.name == "EXTRACT1D":
                np.testing.assert_array_equal(after[hdu.name, hdu.ver].data["FLUX"], hdu.data["FLUX"])


def test_the_default_layout_holds_the_same_numbers(pair, tmp_path):
    simulated, theirs, _ = pair
    ours = replay(simulated, theirs, tmp_path / theirs.name, "detector")
    with fits.open(ours) as a, fits.open(theirs) as b:
        for hdu in a:
            if hdu.name != "EXTRACT1D":
                continue
            peers = [h.data for h in b if h.name == "EXTRACT1D" and h.header["DETECTOR"] == hdu.header["DETECTOR"]]
            for name in peers[0].names:
                np.testing.assert_array_equal(hdu.data[name], np.concatenate([p[name] for p in peers]))

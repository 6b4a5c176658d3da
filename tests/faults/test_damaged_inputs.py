"""Whatever happened to a file, the answer is an error of one line (or a sound result), never a traceback."""

from __future__ import annotations

import gzip
import os
import shutil
import warnings

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tso3.errors import InputError, Tso3Error, Tso3Warning
from tso3.io.badpixels import read_bad_pixels
from tso3.io.crfints import CrfintsWriter
from tso3.io.exposure import read_observation
from tso3.io.reader import Reader
from tso3.io.tiles import Place, mark_rows

IN_PLACE = settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # what fails is short enough
)


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    """Hundreds of small files need not reach the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)


def copy_through(path, output):
    """Read, mark and write a file; return what astropy makes of the product."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", Tso3Warning)
        exposure = read_observation(path).exposures[0]
        product = output / "p_crfints.fits"
        with Reader(exposure) as reader, CrfintsWriter(exposure, 0, product) as writer:
            raw = reader.read(0, exposure.n_int)
            mark_rows(raw, Place(0, exposure.ny, 0), None, None, {}, (0, 0, 0), top_bit=True)
            writer.write(0, exposure.n_int, raw)
        with fits.open(product) as hdus:
            hdus.verify("exception")
            return [hdu.name for hdu in hdus]


@pytest.fixture
def sound(tmp_path, make_calints):
    path = tmp_path / "a_calints.fits"
    make_calints(path)
    (tmp_path / "out").mkdir()
    return path


@pytest.fixture
def with_tree(sound):
    """The same with an ASDF extension."""
    asdf = pytest.importorskip("asdf")
    import io

    buffer = io.BytesIO()
    tree = {"meta": {"filename": "a", "cal_step": {"x": "COMPLETE"}, "w": np.arange(100.0)}, "_fits_hash": "0"}
    with asdf.AsdfFile(tree) as file:
        file.write_to(buffer)
    raw = np.frombuffer(buffer.getvalue(), "u1")
    column = fits.Column("ASDF_METADATA", f"{raw.size}B", array=raw[None])
    with fits.open(sound, mode="append") as hdus:
        hdus.append(fits.BinTableHDU.from_columns([column], name="ASDF"))
    return sound


def headers_of(path):
    """Return the byte ranges of all headers."""
    with fits.open(path) as hdus:
        infos = [hdu.fileinfo() for hdu in hdus]
    return [(info["hdrLoc"], info["datLoc"]) for info in infos]


def attempt(path, output):
    """Copy; a Tso3Error of one line is as good."""
    before = path.read_bytes()
    message = ""
    try:
        copy_through(path, output)
    except Tso3Error as error:
        message = str(error)
    assert "\n" not in message
    assert {p.name for p in output.iterdir()} <= {"p_crfints.fits"}
    assert path.read_bytes() == before


@IN_PLACE
@given(data=st.data())
def test_mutated_headers(with_tree, data):
    raw = bytearray(with_tree.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        low, high = data.draw(st.sampled_from(headers_of(with_tree)))
        used = max(low, min(high, raw.rfind(b"END" + b" " * 77, low, high)))
        at = data.draw(st.integers(low, used + 79))
        raw[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(list(b" '=/0123456789ET-"))))
    path = with_tree.with_name("m_calints.fits")
    path.write_bytes(raw)
    attempt(path, with_tree.parent / "out")


KEYWORDS = ("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT", "TFIELDS",
    "TFORM1", "TFORM2", "TTYPE1", "EXTNAME", "EXTVER", "BZERO", "BSCALE", "EXP_TYPE", "TSOVISIT", "INTSTART", "NINTS",
    "EXSEGNUM", "EXPSTART", "EFFINTTM", "TGROUP", "DETECTOR", "DATAMODL", "BUNIT", "END")  # fmt: skip
VALUES = ("T", "F", "0", "-1", "1", "2", "3", "8", "16", "32", "64", "-32", "-64", "99", "1000000000000", "4294967296",
    "1.5", "1E400", "-1E400", "'SCI     '", "'DQ      '", "'ASDF'", "''", "'1000000D'", "'D'", "'Q'", "(1,2)", "NaN",
    "", "'IMAGE   '", "'BINTABLE'", "'TABLE   '")  # fmt: skip


@IN_PLACE
@given(data=st.data())
def test_keywords_with_other_values(with_tree, data):
    raw = bytearray(with_tree.read_bytes())
    low, high = data.draw(st.sampled_from(headers_of(with_tree)))
    present = [at for at in range(low, high, 80) if raw[at : at + 8].decode().rstrip() in KEYWORDS]
    at = data.draw(st.sampled_from(present))
    value = data.draw(st.sampled_from(VALUES))
    raw[at + 8 : at + 80] = f"= {value:>20}".ljust(72).encode()
    path = with_tree.with_name("m_calints.fits")
    path.write_bytes(raw)
    attempt(path, with_tree.parent / "out")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("INT_TIMES", "TFIELDS", "1000000000000"),
        ("ASDF", "TFIELDS", "4294967296"),
        ("ASDF", "TFIELDS", "-1"),
        ("SCI", "NAXIS", "1000000000000"),
        ("SCI", "NAXIS1", "1000000000000"),
        ("SCI", "EXTNAME", ""),
        ("ASDF", "EXTNAME", ""),
        ("ASDF", "EXTNAME", "''"),
    ],
)
def test_a_count_or_name_that_no_file_has_is_refused_at_once(with_tree, name, key, value):
    with fits.open(with_tree) as hdus:
        low, high = (hdus[name].fileinfo()[place] for place in ("hdrLoc", "datLoc"))
    raw = bytearray(with_tree.read_bytes())
    at = raw.index(key.ljust(8).encode(), low, high)
    raw[at + 8 : at + 80] = f"= {value:>20}".ljust(72).encode()
    path = with_tree.with_name("m_calints.fits")
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        copy_through(path, with_tree.parent / "out")
    assert "\n" not in str(caught.value)


@IN_PLACE
@given(data=st.data())
def test_mutated_trees_and_tables(with_tree, data):
    raw = bytearray(with_tree.read_bytes())
    with fits.open(with_tree) as hdus:
        infos = [hdus[name].fileinfo() for name in ("INT_TIMES", "ASDF")]
    info = data.draw(st.sampled_from(infos))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(info["datLoc"], info["datLoc"] + info["datSpan"] - 1))
        raw[at] = data.draw(st.integers(0, 255))
    path = with_tree.with_name("m_calints.fits")
    path.write_bytes(raw)
    attempt(path, with_tree.parent / "out")


@IN_PLACE
@given(data=st.data())
def test_truncated_files(with_tree, data):
    raw = with_tree.read_bytes()
    path = with_tree.with_name("m_calints.fits")
    size = data.draw(st.integers(0, len(raw) - 2880))
    path.write_bytes(raw[:size])
    with fits.open(with_tree) as hdus:
        whole = [hdu.name for hdu in hdus if hdu.fileinfo()["datLoc"] + hdu.size <= size]
        between = hdus[len(whole)].fileinfo()["hdrLoc"] >= size
    if between and {"SCI", "ERR", "DQ"} <= set(whole):  # cut between units: what remains is a sound file
        assert copy_through(path, with_tree.parent / "out") == whole
        return
    with pytest.raises(InputError) as caught:
        copy_through(path, with_tree.parent / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", "INT_TIMES"])
def test_a_plane_cut_short_is_named(with_tree, name):
    with fits.open(with_tree) as hdus:
        info = hdus[name].fileinfo()
        size = hdus[name].size
    with open(with_tree, "r+b") as handle:
        handle.truncate(info["datLoc"] + size - 1)
    end = info["datLoc"] + size
    with pytest.raises(InputError, match=f"is truncated: {name} ends at byte {end}, the file at {end - 1}"):
        read_observation(with_tree)


def test_what_is_no_fits(tmp_path, sound):
    cases = {
        "text.fits": b"hello, this is a letter",
        "empty.fits": b"",
        "zero.fits": bytes(5000),
        "page.fits": b"<html>503 Service Unavailable</html>",
        "packed.fits": gzip.compress(sound.read_bytes()),
        "headeronly.fits": sound.read_bytes()[:200],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_observation(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(InputError, match="gunzip"):
        read_observation(tmp_path / "packed.fits")


def test_compressed_images(sound):
    with fits.open(sound) as hdus:
        packed = fits.HDUList([hdus[0], *(fits.CompImageHDU(h.data, h.header) for h in hdus[1:3]), *hdus[3:]])
        packed.writeto(sound.with_name("f_calints.fits"))
    with pytest.raises(InputError, match=r"SCI is a compressed image.*funpack"):
        read_observation(sound.with_name("f_calints.fits"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(sound):
    sound.chmod(0)
    with pytest.raises(InputError, match="no permission"):
        read_observation(sound)


def test_things_that_are_not_files(tmp_path, sound):
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "folder.fits").mkdir()
    (tmp_path / "broken.fits").symlink_to("nowhere")
    (tmp_path / "loop.fits").symlink_to("loop.fits")
    for name in ("pipe.fits", "folder.fits", "broken.fits", "loop.fits", "none.fits"):
        with pytest.raises(InputError) as caught:
            read_observation(tmp_path / name)
        assert "\n" not in str(caught.value)


@IN_PLACE
@given(data=st.data())
def test_mutated_masks(tmp_path, sound, data):
    exposure = read_observation(sound).exposures[0]
    path = tmp_path / "mask.fits"
    fits.writeto(path, np.eye(5, 7, dtype="u1"), overwrite=True)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, 640))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    message = ""
    try:
        assert read_bad_pixels(path, exposure).shape == (5, 7)
    except Tso3Error as error:
        message = str(error)
    assert "\n" not in message


def test_a_folder_that_goes_away_while_writing(sound, tmp_path):
    exposure = read_observation(sound).exposures[0]

    def write_and_lose():
        with Reader(exposure) as reader, CrfintsWriter(exposure, 0, tmp_path / "out" / "p.fits") as writer:
            writer.write(0, 4, reader.read(0, 4))
            shutil.rmtree(tmp_path / "out")

    with pytest.raises(Tso3Error) as caught:
        write_and_lose()
    assert "\n" not in str(caught.value)

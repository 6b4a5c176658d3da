"""Metadata: the archive's schemas as its own package reads them, and its blend rules."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import OutputError, Tso3Warning
from tso3.io import metadata
from tso3.io.metadata import Member, Provenance, ReferenceUse, blend, cards_of, read_values
from tso3.io.schemas import Item, _declared, read_items

STEPS = {"outlier_detection": "COMPLETE", "extract_1d": "COMPLETE"}


def header(**keywords):
    cards = {
        "PROGRAM": "01366", "OBSERVTN": "003", "VISIT": "001", "VISITGRP": "04", "SEQ_ID": "1", "ACT_ID": "01",
        "EXPOSURE": "00001", "DETECTOR": "NRS1", "EXP_TYPE": "NRS_BRIGHTOBJ", "TSOVISIT": True,
    }  # fmt: skip
    return fits.Header({**cards, **{key.replace("_dash_", "-"): value for key, value in keywords.items()}})


def blended(*headers, references=None, association=(None, None), filename="p_x1dints.fits", steps=STEPS):
    members = [Member(f"{i}_calints.fits", h) for i, h in enumerate(headers)]
    return blend(
        members,
        filename=filename,
        date="2026-11-22T00:00:00.000",
        steps=steps,
        references=references or {},
        association=association,
    )


def test_items_are_those_of_stdatamodels():
    from stdatamodels import schema
    from stdatamodels.jwst.datamodels import TSOMultiSpecModel

    declared = {}

    def note(sub, path, combiner, context, recurse):
        if "fits_keyword" in sub:
            declared[".".join(part for part in path if part != "items")] = sub

    schema.walk_schema(TSOMultiSpecModel().schema, note)
    items = read_items("tso_multispec")
    assert [item.path for item in items] == list(declared)
    for item in items:
        sub = declared[item.path]
        assert item.keyword == sub["fits_keyword"]
        assert item.hdu == sub.get("fits_hdu", "PRIMARY")
        assert item.rule == sub.get("blend_rule")
        assert item.in_table == bool(sub.get("blend_table"))
        assert item.kind == sub.get("type")


def test_remembered_items_are_those_of_the_files(tmp_path, monkeypatch):
    """What comes back from the memory, at the second reading, is what the schemas declare, types included."""
    monkeypatch.setenv("TSO3_CACHE_DIR", str(tmp_path))
    declared = _declared("tso_multispec")
    for _ in range(2):
        read_items.cache_clear()
        assert repr([{**vars(item), "allowed": None} for item in read_items("tso_multispec")]) == repr(
            [{**vars(item), "allowed": None} for item in declared]
        )
        assert [item.allowed for item in read_items("tso_multispec")] == [item.allowed for item in declared]
    assert len(list(tmp_path.iterdir())) == 1


def test_every_rule_of_the_schema_is_known():
    for item in read_items("tso_multispec"):
        if item.hdu == "PRIMARY" and item.rule not in (None, "first", "sum"):
            assert callable(metadata._rule(item))


def test_an_unknown_rule_is_an_error_that_names_the_keyword():
    item = replace(next(i for i in read_items("tso_multispec") if i.keyword == "DETECTOR"), rule="median")
    with pytest.raises(OutputError, match=r"DETECTOR by a rule 'median'.*update tso3"):
        metadata._rule(item)


def test_alternatives_of_a_schema_are_all_admitted():
    item = next(i for i in read_items("tso_multispec") if i.keyword == "SUBARRAY")
    assert item.admits("SUB2048")
    assert item.admits("SLITLESSPRISM")
    assert not item.admits("NO_SUCH")
    assert not item.admits(3)


def test_rules():
    good, bad = "within commanded tolerance", "outside calibration tolerance"
    result = blended(
        header(INTSTART=1, INTEND=5, EXPMID=10.0, EXPEND=3.0, TIME_dash_OBS="00:00:02", FWPOSTOL=good, EXSEGNUM=1,
               FILTER="F290LP"),
        header(INTSTART=6, INTEND=9, EXPMID=20.0, EXPEND=7.0, TIME_dash_OBS="00:00:01", FWPOSTOL=bad, EXSEGNUM=2,
               DETECTOR="NRS2", FILTER="F290LP"),
    )  # fmt: skip
    head = result.header()
    assert (head["INTSTART"], head["INTEND"], head["EXPMID"], head["EXPEND"]) == (1, 9, 15.0, 7.0)
    assert (head["TIME-OBS"], head["FWPOSTOL"]) == ("00:00:01", bad)
    assert (head["EXSEGNUM"], head["DETECTOR"], head["FILTER"]) == (1, "MULTIPLE", "F290LP")


def test_steps_references_and_association_are_recorded():
    references = {"extract1d": ReferenceUse("crds://a.json", "crds"), "apcorr": ReferenceUse("built-in", "built-in")}
    result = blended(header(), references=references, association=("pool.csv", "asn.json"))
    head = result.header()
    assert (head["S_OUTLIR"], head["S_EXTR1D"], head["S_PXREPL"], head["S_TRCMOD"]) == (
        "COMPLETE",
        "COMPLETE",
        "SKIPPED",
        "SKIPPED",
    )
    assert head["R_EXTR1D"] == "crds://a.json"  # the schema has no keyword for apcorr: it is in the subtree tso3 only
    assert "R_APCORR" not in head
    assert (head["ASNPOOL"], head["ASNTABLE"]) == ("pool.csv", "asn.json")
    assert head["DATAMODL"] == "TSOMultiSpecModel"
    assert head["FILENAME"] == "p_x1dints.fits"
    assert list(result.hdrtab["FILENAME"]) == ["0_calints.fits"]


def test_a_keyword_that_only_a_later_file_has_is_in_the_table_but_not_the_first_ones_header():
    result = blended(header(), header(TITLE="a title", NINTS=3))
    assert "TITLE" not in result.header()
    assert list(result.hdrtab["TITLE"]) == ["nan", "a title"]
    np.testing.assert_array_equal(result.hdrtab["NINTS"], [np.nan, 3.0])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([("1", "NRS1", 100.0)], 100.0),
        ([("1", "NRS1", 100.0), ("1", "NRS1", 100.0), ("1", "NRS2", 100.0), ("1", "NRS2", 100.0)], 100.0),
        ([("1", "NRS1", 60.0), ("1", "NRS1", 40.0), ("1", "NRS2", 60.0), ("1", "NRS2", 40.0)], 100.0),
        ([("1", "NRS1", 100.0), ("2", "NRS1", 50.0)], 150.0),
        ([("1", "NRS1", 100.0), ("1", "NRS2", 101.0)], 101.0),
    ],
)
def test_durations_count_once_per_exposure(files, expected):
    headers = [header(EXPOSURE=number, DETECTOR=detector, DURATION=value) for number, detector, value in files]
    assert blended(*headers).header()["DURATION"] == expected


def test_a_value_that_the_schema_does_not_admit_is_left_out_and_named():
    with pytest.warns(Tso3Warning, match=r"^a\.fits: NINTS = 'four' is not what the archive's schema admits; left out"):
        values = read_values(fits.Header({"NINTS": "four", "NGROUPS": 2, "FILTER": "F290LP"}), "a.fits")
    assert values == {"meta.exposure.ngroups": 2, "meta.instrument.filter": "F290LP"}


def test_a_card_without_value_is_absent():
    assert read_values(fits.Header([("NINTS", None), ("TITLE", "x")]), "a") == {"meta.program.title": "x"}


def test_cards_never_warn_and_always_fit():
    """Long comments give way to values; long values are continued; the rest of the archive's text is kept."""
    values = {}
    for item in read_items("tso_multispec"):
        values[item.path] = {"string": "x" * 40, "integer": 2**40, "number": -1.2345678901234567e-100}.get(
            item.kind, True
        )
    values["meta.filename"] = "y" * 90
    values["meta.program.title"] = "it's" * 15
    for length, path in zip(
        range(60, 71), (p for p in list(values) if p.startswith("meta.ref_file.") and "name" in p), strict=False
    ):
        values[path] = "z" * length
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = fits.Header()
        for card in cards_of(values, "PRIMARY"):
            head.append(card, end=True)
        text = head.tostring()
    again = fits.Header.fromstring(text)
    assert again["FILENAME"] == "y" * 90
    assert again["TITLE"] == "it's" * 15


def test_names_that_fits_cannot_hold_are_written_with_question_marks():
    result = blended(header(), association=("Pool-é", "asn-ü.json"), filename="prodü_x1dints.fits")
    assert result.header()["ASNTABLE"] == "asn-?.json"
    assert result.header()["FILENAME"] == "prod?_x1dints.fits"
    fits.BinTableHDU(result.hdrtab)


def test_headings_come_once_and_before_their_cards():
    cards = cards_of({"meta.exposure.nints": 3, "meta.exposure.ngroups": 2, "meta.telescope": "JWST"}, "PRIMARY")
    assert [card[:2] for card in cards] == [
        ("TELESCOP", "JWST"), ("", ""), ("", "Exposure parameters"), ("", ""), ("NINTS", 3), ("NGROUPS", 2),
    ]  # fmt: skip


def test_blending_leaves_the_headers_alone():
    one, two = header(NINTS=2, DURATION=3.0), header(NINTS=2, DURATION=3.0, DETECTOR="NRS2")
    before = one.tostring(), two.tostring()
    blended(one, two)
    assert (one.tostring(), two.tostring()) == before


def test_the_tree_nests_the_values():
    tree = blended(header(NINTS=2)).tree()
    assert tree["meta"]["exposure"]["nints"] == 2
    assert tree["meta"]["cal_step"]["outlier_detection"] == "COMPLETE"


def test_provenance_is_plain():
    provenance = Provenance("1.0", "archive", {"survey": {"n_sample": 0}}, {"gain": ReferenceUse("g.fits", "user")})
    assert provenance.tree() == {
        "version": "1.0",
        "preset": "archive",
        "parameters": {"survey": {"n_sample": 0}},
        "references": {"gain": {"name": "g.fits", "source": "user"}},
    }
    assert [card[:2] for card in provenance.cards()] == [("TSO3VER", "1.0"), ("TSO3PSET", "archive")]


def test_item_without_a_type_admits_anything():
    item = Item("meta.x", "X", "PRIMARY", "", (), None, None, None, False)
    assert item.admits("a")
    assert item.admits(1.5)


def test_a_file_of_times_is_recorded():
    given = Provenance("1.0", "default", times="t.csv")
    assert given.cards()[-1] == ("TSO3TIME", "t.csv", "File that the times are from")
    assert given.tree()["times"] == "t.csv"
    assert "times" not in Provenance("1.0", "default").tree()

"""Which aperture of an extract1d reference is used."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tso3.errors import ReferenceFileError
from tso3.io.reference_files import Aperture1D
from tso3.modes import MODES
from tso3.steps.extraction_setup import choose_aperture, target_name


def exposure(exp_type, slit_name):
    return SimpleNamespace(mode=MODES[exp_type], slit_name=slit_name, stripe="")


@pytest.mark.parametrize(
    ("exp_type", "slit_name", "name"),
    [
        ("NRS_BRIGHTOBJ", "S1600A1", "S1600A1"),
        ("NRS_BRIGHTOBJ", None, "NRS_BRIGHTOBJ"),
        ("NRC_TSGRISM", "S1600A1", "NRC_TSGRISM"),
        ("MIR_LRS-SLITLESS", None, "MIR_LRS-SLITLESS"),
    ],
)
def test_20_the_aperture_is_chosen_by_slit_or_exposure_type_or_any(exp_type, slit_name, name):
    assert target_name(exposure(exp_type, slit_name)) == name
    own, other, any_ = Aperture1D(id=name), Aperture1D(id="ELSEWHERE"), Aperture1D(id="ANY")
    assert choose_aperture([other, own, any_], name, 1, None) is own
    assert choose_aperture([other, any_, own], name, 1, None) is any_  # the first that fits
    with pytest.raises(ReferenceFileError, match=f"has no target aperture for {name} "):
        choose_aperture([other], name, 1, None)


def test_20_the_order_must_fit():
    first, second = Aperture1D(spectral_order=1), Aperture1D(spectral_order=2)
    assert choose_aperture([first, second], "NRC_TSGRISM", 2, None) is second
    assert choose_aperture([Aperture1D()], "NRC_TSGRISM", 2, None).spectral_order is None
    with pytest.raises(ReferenceFileError, match="not for spectral order 2"):
        choose_aperture([first], "NRC_TSGRISM", 2, None)

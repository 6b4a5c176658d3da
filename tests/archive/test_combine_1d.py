"""The step of jwst that combines spectra takes ours (T31): a tool of the archive that reads every row."""

import numpy as np
import pytest

import tso3
from tso3.io.spectra_dataset import open_spectra

pytestmark = [pytest.mark.jwst, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("jwst")


def test_combine_1d_takes_our_spectra(visit, tmp_path, monkeypatch):
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")
    monkeypatch.setenv("CRDS_PATH", str(tmp_path / "crds"))
    monkeypatch.setenv("CRDS_CONTEXT", "jwst_0000.pmap")
    import stpipe.crds_client

    monkeypatch.setattr(stpipe.crds_client, "get_context_used", lambda *_, **__: "jwst_0000.pmap")
    from jwst.combine_1d import Combine1dStep

    run = tso3.run(visit("MIR_LRS-SLITLESS", n_int=10, segments=2, seed=3).association, tmp_path / "products")
    combined = Combine1dStep.call(str(run.products["x1dints"][0]))
    table = combined.spec[0].spec_table
    mean = open_spectra(run.products["x1dints"][0])["flux"].mean("time")
    np.testing.assert_allclose(np.sort(table["FLUX"]), np.sort(mean), rtol=0.02)
    assert table["N_INPUT"].max() == 10

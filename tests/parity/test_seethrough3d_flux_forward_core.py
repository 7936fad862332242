"""The same fixtures as `flux_forward`, through core's own FLUX with our nodes' patch."""

from safetensors.torch import load_file
from seethrough3d_flux import option

SYSTEM, KIND = "seethrough3d", "flux_forward"
FORWARD = dict(atol=1e-4)


def test_core(fixture, ledger, core_flux, tmp_path):
    t, meta, out = fixture.tensors(), fixture.meta, tmp_path / "found.safetensors"
    core_flux.ask("forward", path=str(fixture.path), meta=meta, out=str(out))
    found = load_file(str(out))
    ledger.close("flux.core.velocity", found["sample"], t["out.sample"], **FORWARD)
    ledger.close("flux.core.velocity.kept", found["sample_again"], t["out.sample"], **FORWARD)
    ledger.close("flux.core.velocity.no_text", found["sample_no_call_ids"], t["out.sample_no_call_ids"], **FORWARD)
    assert found["kept"].tolist() == [2, 1, 1]  # two sets of conditions, block 0 kept for both

    last = option(meta, "config")["num_single_layers"] - 1
    taps = {name for name in t if name.startswith("tap.")} - {f"tap.single.{last}.cond"}
    assert taps == {name for name in found if name.startswith("tap.")}
    for name in taps:
        ledger.close("flux.core.blocks", found[name], t[name], **FORWARD)

"""The same fixtures as `pipeline_tiny`, sampled by core with our patch, conditioning and sigmas."""

from safetensors.torch import load_file

SYSTEM, KIND = "seethrough3d", "pipeline_tiny"
LATENTS = dict(atol=2e-4)


def test_core(fixture, ledger, core_flux, tmp_path):
    t, out = fixture.tensors(), tmp_path / "found.safetensors"
    answer = core_flux.ask("pipeline", path=str(fixture.path), meta=fixture.meta, out=str(out))
    found = load_file(str(out))
    ledger.close("pipeline.core.steps", found["steps"], t["out.latents_per_step"], **LATENTS)
    ledger.close("pipeline.core.latents", found["final"], t["out.latents_packed"], **LATENTS)
    assert answer["kept_after"] == 0  # memory is given back when the sampling ends

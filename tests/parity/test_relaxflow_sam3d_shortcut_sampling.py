"""Sampling of shape and pose, guided and distilled."""

from relaxflow_parity import SCHEDULE, TRAJECTORY
from sam3d_parity import close, latents, mot_flow

from sightline.models.relaxflow.sampling import Guidance, Mix, attention_options, sample
from sightline.models.sam3d.evaluate import structure_evaluator
from sightline.models.sam3d.times import shortcut_times

SYSTEM, KIND = "relaxflow", "sam3d_shortcut_sampling"


def test_times_and_samples(fixture, ledger):
    t, m = fixture.tensors(), fixture.meta
    network = m["model"]
    model = mot_flow(fixture.json(network.replace(".safetensors", ".json")), fixture.tensors(network))
    interval = tuple(v / 1000 for v in m["interval"])
    for name, distilled in (("cfg7", False), ("distilled", True)):
        times, d = shortcut_times(m["inference_steps"], m["rescale_t"], distilled)
        ledger.close("sam3d.times", times, t[f"t_seq.no_shortcut{not distilled}"], **SCHEDULE)
        ledger.close("sam3d.times", d, t[f"d.no_shortcut{not distilled}"], **SCHEDULE)
        guidance = Guidance(0 if distilled else m["strength"], interval)
        options = attention_options(None, shared_uncond=True)
        evaluate = structure_evaluator(model, t["cond"], t["cond"], options, d)
        out = sample(evaluate, latents(t, name + ".noise"), times, guidance, Mix([0.0]), branch="obs")
        close(ledger, "sam3d.sampling." + name, out, latents(t, name + ".out"), **TRAJECTORY)

"""What the SAM 3D parity modules share."""

from relaxflow_parity import filled

from sightline.models.sam3d.mot_flow import MotFlow, MotFlowConfig


def latents(tensors, prefix):
    """The tensors `<prefix>.<latent>` by latent."""
    return {name.removeprefix(prefix + "."): v for name, v in tensors.items() if name.startswith(prefix + ".")}


def mot_flow(meta, tensors):
    args = {**meta["args"], "resolution": meta["shape_resolution"]}
    return filled(lambda: MotFlow(MotFlowConfig.from_args(args)), tensors)


def close(ledger, component, found, expected, **tolerance):
    assert set(found) == set(expected)
    for name, value in expected.items():
        ledger.close(component, found[name], value, **tolerance)

"""Run as a program: the growth of the process's memory over cases given as JSON, each in a forked child."""

import json
import os
import sys

import torch

torch.set_num_threads(1)

from sightline.models.trellis2 import memory  # noqa: E402
from sightline.models.trellis2.checkpoint import CLASSES  # noqa: E402
from sightline.models.trellis2.naf import Naf, NafConfig  # noqa: E402
from sightline.models.trellis2.samplers import SamplerSettings  # noqa: E402
from sightline.models.trellis2.stages import decode_structure, sample_structure  # noqa: E402
from sightline.models.trellis2.streaming import stream_decode  # noqa: E402
from sightline.scene.sparse import SparseTensor  # noqa: E402


def build(name, args):
    model_class, config_class = CLASSES[name]
    torch.manual_seed(0)
    model = model_class(config_class.from_args(args)).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter.uniform_(-0.05, 0.05)
    return model


def grid(side):
    line = torch.arange(side, dtype=torch.int32)
    return torch.cartesian_prod(torch.zeros(1, dtype=torch.int32), line, line, line)


def flow(args, tokens, context, branches):
    from sightline.models.trellis2.cascade import Normalization
    from sightline.models.trellis2.conditions import Condition
    from sightline.models.trellis2.stages import sample_latent

    model = build("SLatFlowModel", args)
    width, channels = model.config.projected_channels, model.config.in_channels
    tokens_of_image = torch.randn(1, context, model.config.cond_channels)
    cond = tokens_of_image if width is None else Condition(tokens_of_image, torch.randn(tokens, width))
    coords = grid(64)[:tokens].contiguous()
    normalization = Normalization((0.0,) * channels, (1.0,) * channels)
    settings = SamplerSettings(1, 3.0, 0.5)

    def run():
        sample_latent(model, coords, cond, settings, normalization, torch.Generator(), batched=branches == 2)

    return run, lambda: memory.flow_memory(model.config, tokens, context, branches=branches)


def structure(args, resolution):
    model = build("SparseStructureDecoder", args)
    latent = torch.randn(1, model.config.latent_channels, *[resolution] * 3)
    model.out_layer[2].bias.fill_(100.0)
    return lambda: decode_structure(model, latent), lambda: memory.structure_memory(model.config, resolution)


def structure_flow(args, context):
    model = build("SparseStructureFlowModel", args)
    cond = torch.randn(1, context, model.config.cond_channels)

    def run():
        sample_structure(model, cond, SamplerSettings(1, 3.0, 0.5), torch.Generator())

    return run, lambda: memory.flow_memory(model.config, model.config.resolution**3, context)


def decoder(args, side, workspace):
    model = build("FlexiDualGridVaeDecoder", args)
    for level in model.blocks[:-1]:
        level[-1].to_subdiv.weight.mul_(10)
    coords = grid(side)[torch.randperm(side**3)[: side**3 // 8].sort().values].contiguous()
    z = SparseTensor(torch.randn(len(coords), model.config.latent_channels), coords)
    voxels = []

    def run():
        with torch.no_grad():
            decoded = stream_decode(model, z, workspace=workspace) if workspace else model(z)
        voxels[:] = [len(coords), *[len(plan.coords) for plan in decoded.subdivisions]]
        return decoded

    if workspace:
        return run, lambda: memory.streamed_memory(model.config, voxels, workspace)
    return run, lambda: memory.decoder_memory(model.config, voxels)


def naf(size, target, points, channels):
    torch.manual_seed(0)
    model = Naf(NafConfig()).requires_grad_(False)
    image, patches = torch.rand(1, 3, size, size), torch.randn(1, channels, size // 16, size // 16)
    uv = torch.rand(points, 2) * size

    def run():
        with torch.no_grad():
            model.at_points(image, patches, uv, size, target)

    return run, lambda: memory.naf_memory(size, target, points, channels=channels, projected=False)


def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main():
    for kind, arguments in json.loads(sys.argv[1]):
        child = os.fork()
        if child == 0:
            run, estimate = globals()[kind](**arguments)
            with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                file.write("5")  # the peak counts from now on
            before = resident()
            run()
            peak = [line for line in open("/proc/self/status", encoding="ascii") if line.startswith("VmHWM")][0]
            print(json.dumps([int(peak.split()[1]) * 1024 - before, estimate()]), flush=True)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(1)


if __name__ == "__main__":
    main()

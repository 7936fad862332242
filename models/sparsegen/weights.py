"""The weights that exist for SparseGen."""

from pathlib import Path

from ..weights import Weights, WeightsFile

EMBEDDED = "sparsegen-tiny"
EMBEDDED_PATH = Path(__file__).with_name("sparsegen-tiny.safetensors")

PUBLISHED = Weights(
    name="sparsegen-srn-cars",
    title="SparseGen, ShapeNet-SRN cars",
    source="https://github.com/Pixtella/SparseGen (ckpt_srn.tar.gz, linked in its README)",
    licence="Apache-2.0",
    # The archive also carries optimizer moments, which are not read; the network itself is 447 MB.
    files=(WeightsFile("ckpt_srn/model.pth"), WeightsFile("ckpt_srn/.hydra/config.yaml")),
    parameters=111_817_416,
    domain="cars, 128x128 pictures, camera distance 1.3, field of view 52 degrees, white background",
)

TINY = Weights(
    name=EMBEDDED,
    title="SparseGen tiny, procedural objects",
    source="part of this repository, trained by training/sparsegen on training/procedural",
    licence="Apache-2.0",
    files=(WeightsFile(EMBEDDED_PATH.name),),
    domain="toy-like objects, 64x64 pictures, camera distance 1.3, field of view 52 degrees, white background",
    path=EMBEDDED_PATH,
)

ALL = (TINY, PUBLISHED)

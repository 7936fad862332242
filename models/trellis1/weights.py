"""The weights that exist for TRELLIS (v1); what the hub's lists did not tell is left open."""

from ..weights import Weights, WeightsFile
from .family import STEMS

TRELLIS_REPO = "microsoft/TRELLIS-image-large"
DINOV2_REPO = "facebookresearch/dinov2"
DINOV2_FILE = "dinov2_vitl14_reg4_pretrain.pth"
CHECKSUMS = {"sparse_structure_decoder": "1c76d4a40519aa2d711cc263a8404105231ac26db31d946bed48b84fee79009a"}


def _pair(role: str, stem: str) -> tuple[WeightsFile, WeightsFile]:
    return (
        WeightsFile(f"ckpts/{stem}.json", repo=TRELLIS_REPO),
        WeightsFile(f"ckpts/{stem}.safetensors", sha256=CHECKSUMS.get(role), repo=TRELLIS_REPO),
    )


TRELLIS1 = Weights(
    name="trellis1",
    title="TRELLIS-image-large",
    source=f"https://huggingface.co/{TRELLIS_REPO}",
    licence="MIT",
    files=(
        WeightsFile("pipeline.json", repo=TRELLIS_REPO),
        *(file for role, stem in STEMS.items() for file in _pair(role, stem)),
    ),
    parameters=1_495_506_422,
    domain="one picture of an object -> Gaussians, a mesh with colors, a radiance field; with RelaxFlow's priors",
    needs=("dinov2-vitl14-reg",),
)

DINOV2 = Weights(
    name="dinov2-vitl14-reg",
    title="DINOv2 ViT-L/14 with registers",
    source=f"https://github.com/{DINOV2_REPO}",
    licence="Apache-2.0",
    files=(
        WeightsFile(
            DINOV2_FILE, repo=DINOV2_REPO, url=f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/{DINOV2_FILE}"
        ),
    ),
    domain="image features of TRELLIS (v1) and SAM 3D Objects",
)

ALL = (TRELLIS1, DINOV2)

"""The weights that exist for SAM 3D Objects; the repository is gated, its files were never seen here."""

from ..weights import Weights, WeightsFile

REPO = "facebook/sam-3d-objects"
MOGE_REPO = "Ruicheng/moge-vitl"
STEMS = ("ss_generator", "slat_generator", "ss_decoder", "slat_decoder_gs", "slat_decoder_gs_4", "slat_decoder_mesh")

SAM3D = Weights(
    name="sam3d-objects",
    title="SAM 3D Objects",
    source=f"https://huggingface.co/{REPO} (gated: accept its licence there)",
    licence="SAM License (Meta; see the model card)",
    # Sizes and checksums are not known: whoever fetches the files has to be let in by the authors first.
    files=(
        WeightsFile("checkpoints/pipeline.yaml", repo=REPO),
        *(WeightsFile(f"checkpoints/{stem}{suffix}", repo=REPO) for stem in STEMS for suffix in (".yaml", ".ckpt")),
    ),
    domain="one picture of a scene, a mask and a point map -> the object whole, its pose before the camera",
    needs=("moge-vitl",),
)

MOGE = Weights(
    name="moge-vitl",
    title="MoGe, ViT-L",
    source=f"https://huggingface.co/{MOGE_REPO}",
    licence="see the model card",
    files=(WeightsFile("model.pt", repo=MOGE_REPO),),
    domain="one picture -> its point map (ComfyUI's Load MoGe Model reads it)",
)

ALL = (SAM3D, MOGE)

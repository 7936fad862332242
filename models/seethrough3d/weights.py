"""The weights that exist for SeeThrough3D, and the base model they act on."""

from ..weights import Weights, WeightsFile

REPO = "va1bhavagrawa1/seethrough3d-flux.1-weights"
BASE_REPO = "black-forest-labs/FLUX.1-dev"

RELEASE = Weights(
    name="seethrough3d",
    title="SeeThrough3D, occlusion LoRA for FLUX.1-dev",
    source=f"https://huggingface.co/{REPO}",
    licence="see the model card; as a derivative of FLUX.1-dev it falls under the FLUX.1 [dev] Non-Commercial License",
    # 380 tensors of rank 128 in bfloat16, 298.8 MB by their shapes; the file itself was never seen here.
    files=(WeightsFile("checkpoints/seethrough3d_release/lora.safetensors", repo=REPO),),
    parameters=149_422_080,
    domain="layouts of boxes with a description each -> pictures of FLUX.1-dev, 512 to 1024 pixels",
    needs=("flux.1-dev",),
)

FLUX_DEV = Weights(
    name="flux.1-dev",
    title="FLUX.1-dev",
    source=f"https://huggingface.co/{BASE_REPO} (gated: accept its licence there)",
    licence="FLUX.1 [dev] Non-Commercial License",
    files=(WeightsFile("model_index.json", repo=BASE_REPO),),
    domain="text -> pictures; the folder in diffusers' layout, or ComfyUI's single files",
)

ALL = (RELEASE, FLUX_DEV)

"""The weights that exist for TRELLIS.2 and Pixal3D; sizes and checksums as the hub lists them."""

from ..weights import Weights, WeightsFile

TRELLIS2_REPO = "microsoft/TRELLIS.2-4B"
TRELLIS_REPO = "microsoft/TRELLIS-image-large"
PIXAL3D_REPO = "TencentARC/Pixal3D"
DINOV3_REPO = "camenduru/dinov3-vitl16-pretrain-lvd1689m"

SHAPE_DECODER = 948_490_494, "e3b718d3e43e4f8780e9a24ac6fff231811a67e3b058e336e10fe654c911d581"
TEXTURE_DECODER = 948_458_812, "97ea69addea2ecd9312910f5f548234665eef51c088386180b7cd5b258645e3c"
STRUCTURE_DECODER = 147_591_972, "1c76d4a40519aa2d711cc263a8404105231ac26db31d946bed48b84fee79009a"


def _pair(repo: str, stem: str, size: int | None = None, sha256: str | None = None) -> tuple[WeightsFile, ...]:
    return WeightsFile(f"ckpts/{stem}.json", repo=repo), WeightsFile(
        f"ckpts/{stem}.safetensors", size, sha256, repo=repo
    )


def _pixal3d_flows(suffix: str) -> tuple[WeightsFile, ...]:
    return (
        *_pair(PIXAL3D_REPO, f"ss_flow_img_dit_1_3B_64_bf16{suffix}", 5_359_822_584),
        *_pair(PIXAL3D_REPO, f"slat_flow_img2shape_dit_1_3B_512_bf16{suffix}", 5_546_764_048),
        *_pair(PIXAL3D_REPO, f"slat_flow_img2shape_dit_1_3B_1024_bf16{suffix}", 5_546_764_048),
        *_pair(PIXAL3D_REPO, f"slat_flow_imgshape2tex_dit_1_3B_1024_bf16{suffix}", 5_546_960_656),
    )


PIXAL3D_DECODERS = (
    *_pair(PIXAL3D_REPO, "shape_dec_next_dc_f16c32_fp16", *SHAPE_DECODER),
    *_pair(PIXAL3D_REPO, "tex_dec_next_dc_f16c32_fp16", *TEXTURE_DECODER),
    *_pair(PIXAL3D_REPO, "ss_dec_conv3d_16l8_fp16", *STRUCTURE_DECODER),
)
PIXAL3D_LICENCE = "MIT (the model card disallows use in the European Union)"

PIXAL3D = Weights(
    name="pixal3d",
    title="Pixal3D, one picture",
    source=f"https://huggingface.co/{PIXAL3D_REPO}",
    licence=PIXAL3D_LICENCE,
    files=(WeightsFile("pipeline.json", repo=PIXAL3D_REPO), *_pixal3d_flows(""), *PIXAL3D_DECODERS),
    parameters=5_499_500_000,
    domain="one picture of an object and its field of view -> a mesh with PBR voxels aligned with the pixels",
    needs=("dinov3-vitl16", "naf"),
)

PIXAL3D_MV = Weights(
    name="pixal3d-mv",
    title="Pixal3D, several posed pictures",
    source=f"https://huggingface.co/{PIXAL3D_REPO}",
    licence=PIXAL3D_LICENCE,
    files=(WeightsFile("pipeline_mv.json", repo=PIXAL3D_REPO), *_pixal3d_flows("_mv"), *PIXAL3D_DECODERS),
    parameters=5_499_500_000,
    domain="several pictures of an object with their cameras -> a mesh with PBR voxels",
    needs=("dinov3-vitl16", "naf"),
)

TRELLIS2 = Weights(
    name="trellis2",
    title="TRELLIS.2-4B",
    source=f"https://huggingface.co/{TRELLIS2_REPO} and {TRELLIS_REPO} (structure decoder)",
    licence="MIT",
    files=(
        WeightsFile("pipeline.json", repo=TRELLIS2_REPO),
        *_pair(
            TRELLIS2_REPO,
            "ss_flow_img_dit_1_3B_64_bf16",
            2_584_426_920,
            "ca01377c485bec418076d38ee80166d32dc776d744f2553b835cba1e97a7abf6",
        ),
        *_pair(
            TRELLIS2_REPO,
            "slat_flow_img2shape_dit_1_3B_512_bf16",
            2_584_574_424,
            "ec5e0917ef9b7e25ad51dffc7d19687a42019871f94239f2fa7f86264c55b70f",
        ),
        *_pair(
            TRELLIS2_REPO,
            "slat_flow_img2shape_dit_1_3B_1024_bf16",
            2_584_574_424,
            "07cd0596f634c5adc1890023d16023afc5eed02fb84b22bb23aff5bf0030fbbd",
        ),
        *_pair(
            TRELLIS2_REPO,
            "slat_flow_imgshape2tex_dit_1_3B_512_bf16",
            2_584_672_728,
            "8371aa1c5d13be79dcd5ddfd2cf3835e902e204dc34427169a1c702828e1a94d",
        ),
        *_pair(
            TRELLIS2_REPO,
            "slat_flow_imgshape2tex_dit_1_3B_1024_bf16",
            2_584_672_728,
            "580401269059a339b8318ab9ced459a13ba63391721c83a6c383198c29e77686",
        ),
        *_pair(TRELLIS2_REPO, "shape_dec_next_dc_f16c32_fp16", *SHAPE_DECODER),
        *_pair(TRELLIS2_REPO, "tex_dec_next_dc_f16c32_fp16", *TEXTURE_DECODER),
        *_pair(TRELLIS_REPO, "ss_dec_conv3d_16l8_fp16", *STRUCTURE_DECODER),
    ),
    parameters=6_461_000_000,
    domain="one picture of an object -> a mesh with PBR voxels in a canonical pose",
    needs=("dinov3-vitl16",),
)

TRELLIS2_ENCODERS = Weights(
    name="trellis2-encoders",
    title="TRELLIS.2-4B, encoders",
    source=f"https://huggingface.co/{TRELLIS2_REPO}",
    licence="MIT",
    files=(
        WeightsFile("texturing_pipeline.json", repo=TRELLIS2_REPO),
        *_pair(
            TRELLIS2_REPO,
            "shape_enc_next_dc_f16c32_fp16",
            708_797_208,
            "f37c5ff5b983b68e9946060000f09bc131f3e84318a2c8b7430a81e4b4636c41",
        ),
        *_pair(
            TRELLIS2_REPO,
            "tex_enc_next_dc_f16c32_fp16",
            None,
            "dd109f75f84b90fa411554ed6b0e4a87f430841163156fc0ebda2ebdc4752493",
        ),
    ),
    domain="meshes and PBR voxels -> latents, to texture an existing mesh",
)

DINOV3 = Weights(
    name="dinov3-vitl16",
    title="DINOv3 ViT-L/16, LVD-1689M",
    source=f"https://huggingface.co/{DINOV3_REPO} (the same file as facebook/dinov3-vitl16-pretrain-lvd1689m)",
    licence="DINOv3 License (Meta; see https://ai.meta.com/resources/models-and-libraries/dinov3-license)",
    files=(
        WeightsFile("config.json", repo=DINOV3_REPO),
        WeightsFile(
            "model.safetensors",
            1_212_559_808,
            "dcb2e45127cccbf1601e5f42fef165eea275c8e5213197e8dcf3f48822718179",
            repo=DINOV3_REPO,
        ),
    ),
    domain="image features of TRELLIS.2 and Pixal3D",
)

NAF = Weights(
    name="naf",
    title="NAF feature upsampler",
    source="https://github.com/valeoai/NAF",
    licence="Apache-2.0",
    files=(
        WeightsFile(
            "naf_release.pth",
            2_664_431,
            "c096c1ab2217a5c3ac136365f721685e2201379cb69d509cfb0261183847c98f",
            repo="valeoai/NAF",
            url="https://github.com/valeoai/NAF/releases/download/model/naf_release.pth",
        ),
    ),
    domain="raises DINOv3 features to pixel resolution for Pixal3D",
)

ALL = (PIXAL3D, PIXAL3D_MV, TRELLIS2, TRELLIS2_ENCODERS, DINOV3, NAF)

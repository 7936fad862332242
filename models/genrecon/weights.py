"""The weights that exist for GenRecon.

Sizes and checksums are those a public reproduction reports; the files themselves were never seen here. Source:
GenRecon, specification 1.
"""

from ..trellis2.weights import DINOV3, TRELLIS2
from ..weights import Weights, WeightsFile

HOST = "https://kaldir.vc.cit.tum.de/genrecon"


def _flow(name: str, size: int, sha256: str) -> WeightsFile:
    return WeightsFile(name, size, sha256, repo="genrecon", url=f"{HOST}/{name}")


GENRECON = Weights(
    name="genrecon",
    title="GenRecon, three flows for rooms",
    source=f"{HOST} (code: github.com/kasothaphie/GenRecon)",
    licence="MIT for the code; none is stated for the weights, which are made from TRELLIS.2's (MIT)",
    files=(
        _flow(
            "sparse_structure.pt", 2_862_971_400, "e18c1caddb2357dbf5839f0f7e1569c50d855fcb47e0871483d99c91a14e2bb7"
        ),
        _flow("shape_slat.pt", 5_410_532_174, "d9e13be151a213bf67565d2a17341fe97328e455814fb2328a59366344e122fb"),
        _flow("texture_slat.pt", 5_410_728_782, "28f99217a4fbcd04f36a5f576905975ae8b874ad63548d6ab8afdb96cf03ed47"),
    ),
    parameters=4_057_884_235,
    domain="posed photos of a room -> one mesh with PBR voxels of the whole room, chunk by chunk",
    needs=("trellis2-decoders", DINOV3.name),
)

DECODERS = Weights(
    name="trellis2-decoders",
    title="TRELLIS.2-4B, decoders",
    source=TRELLIS2.source,
    licence=TRELLIS2.licence,
    files=tuple(file for file in TRELLIS2.files if "_dec_" in file.name or file.name == "pipeline.json"),
    domain="latents -> occupancy, shape and PBR voxels; all that GenRecon takes from TRELLIS.2 beside its own flows",
)

ALL = (GENRECON, DECODERS)

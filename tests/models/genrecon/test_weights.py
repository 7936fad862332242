"""What is said about the published weights fits the networks they are for."""

from sightline.models.genrecon.checkpoint import STAGES, contract
from sightline.models.genrecon.family import TRELLIS2_PLACES
from sightline.models.genrecon.weights import DECODERS, GENRECON
from sightline.pipelines import published

BYTES = {"bfloat16": 2, "float32": 4, "complex64": 8}


def test_sizes_are_those_of_the_networks():
    """A `.pt` is its tensors and a third of a megabyte of wrapping."""
    total = 0
    for file, args in zip(GENRECON.files, STAGES.values(), strict=True):
        size = 0
        for entry in contract(args).values():
            count = 1
            for n in entry["shape"]:
                count *= n
            size += count * BYTES[entry["dtype"]]
            total += count
        assert 0 < file.bytes - size < 500_000, file.name
    assert total == GENRECON.parameters


def test_decoders_come_with_it_and_lie_where_the_loader_looks():
    fetched, brought = published.needs(GENRECON)
    assert DECODERS in fetched and not brought
    assert {file.repo for file in DECODERS.files if file.name == "pipeline.json"} <= set(TRELLIS2_PLACES)
    assert sum(file.name.endswith(".safetensors") for file in DECODERS.files) == 3

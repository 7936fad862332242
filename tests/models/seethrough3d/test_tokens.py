"""Tokens, masks, positions, links, spans and noise levels."""

import pytest
import torch

from sightline.kernels.split_attention import dense_mask
from sightline.models.seethrough3d.prompt import parts_from_lines, plain_parts, released_spans, token_spans
from sightline.models.seethrough3d.schedule import euler, flux_sigmas, image_tokens
from sightline.models.seethrough3d.tokens import (
    Condition,
    condition_ids,
    condition_pixels,
    image_ids,
    mask_cells,
    pack,
    text_links,
    unpack,
)
from sightline.scene.errors import InputError


def words(text):
    """A stand-in for T5: one token a word."""
    return [hash(word) % 1000 for word in text.split()]


def glued(text):
    """A tokenizer that joins "and hot" into one token, so that the context changes the count."""
    return [hash(word) % 1000 for word in text.replace("and hot", "and_hot").split()]


def test_pack_and_unpack():
    latent = torch.randn(2, 4, 6, 10)
    tokens = pack(latent)
    assert tokens.shape == (2, 15, 16) and torch.equal(unpack(tokens, 3, 5), latent)
    assert torch.equal(tokens[0, 6], latent[0, :, 2:4, 2:4].flatten())  # row 1, column 1


def test_positions():
    assert torch.equal(condition_ids((4, 4), (4, 4)), image_ids(4, 4))
    ids = condition_ids((4, 2), (8, 3))
    assert ids[-1].tolist() == [0, 6, 1.5] and ids.dtype == torch.float32


def test_cells_are_on_where_any_pixel_is():
    masks = torch.zeros(2, 64, 64)
    masks[0, 17, 40] = 1
    cells = mask_cells(masks, (32, 32))
    assert cells[0].nonzero().tolist() == [[8, 20]] and not bool(cells[1].any())
    assert mask_cells(torch.zeros(0, 8, 8)).shape == (0, 32, 32)
    with pytest.raises(InputError, match="one silhouette"):
        mask_cells(torch.zeros(1, 2, 8, 8))


def test_control_image():
    image = torch.rand(1, 3, 40, 60)
    pixels = condition_pixels(image, 32)
    assert pixels.shape == (1, 3, 32, 32) and float(pixels.min()) >= -1 and float(pixels.max()) <= 1
    same = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(condition_pixels(same, 32), same * 2 - 1)
    with pytest.raises(InputError, match="colour picture"):
        condition_pixels(torch.rand(1, 4, 8, 8))
    with pytest.raises(InputError, match="resample"):
        condition_pixels(image, 32, "nearest")


def test_links_of_a_batch_with_different_spans():
    cells = torch.zeros(2, 2, 2, dtype=torch.bool)
    cells[0, 0], cells[1, :, 0] = True, True
    one = Condition(torch.zeros(4, 1), (2, 2), ((4, 5), (7,)), cells)
    other = Condition(torch.zeros(4, 1), (2, 2), ((4,),), cells[:1])
    unbound = Condition(torch.zeros(4, 1), (2, 2), (), torch.zeros(0, 2, 2, dtype=torch.bool))
    links = text_links([[one], [other], [unbound]])
    assert links.columns.tolist() == [4, 5, 7]
    rows = dense_mask(links, 10)[:, 0, 10:, :10]
    assert rows[0].nonzero().tolist() == [[0, 4], [0, 5], [0, 7], [1, 4], [1, 5], [2, 7]]
    assert rows[1].nonzero().tolist() == [[0, 4], [1, 4]] and not bool(rows[2].any())
    with pytest.raises(InputError, match="equal condition tokens"):
        text_links([[one], [one, one]])


def test_conditions_that_do_not_fit():
    with pytest.raises(InputError, match="not a grid"):
        Condition(torch.zeros(5, 1), (2, 2), (), torch.zeros(0, 2, 2))
    with pytest.raises(InputError, match="1 descriptions"):
        Condition(torch.zeros(4, 1), (2, 2), ((1,),), torch.zeros(2, 2, 2))


def test_spans():
    parts = plain_parts(["red car", "dog", "dog"], "in a park")
    assert parts.text == "a photo of red car and dog and dog in a park"
    assert token_spans(words, parts) == [[3, 4], [6], [8]] == released_spans(words, parts)
    assert plain_parts(["dog"]).text == "a photo of dog "


def test_spans_where_context_changes_the_tokens():
    parts = plain_parts(["cat", "hot dog", "bird"], "in a park")
    # "a photo of cat and_hot dog and bird": the token that holds the word's beginning belongs to it
    assert token_spans(glued, parts) == [[3], [4, 5], [7]]


def test_lines():
    parts = parts_from_lines(" a \n\n b b\n", " x\n y ")
    assert parts.subjects == ("a", "b b") and parts.background == "x y"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (plain_parts([]), "no objects"),
        (plain_parts(["a", " "]), "Object 2 has no description"),
        (plain_parts(["a"], "b " * 600), "605 T5 tokens and FLUX reads 512"),
    ],
)
def test_prompts_that_cannot_be_used(parts, said):
    with pytest.raises(InputError, match=said):
        token_spans(words, parts)


def test_noise_levels():
    sigmas = flux_sigmas(10, image_tokens(1024, 1024))
    assert float(sigmas[0]) == 1 and float(sigmas[-1]) == 0 and bool((sigmas.diff() < 0).all())
    half = flux_sigmas(10, 4096, denoise=0.5)
    assert len(half) == 11 and torch.equal(half, flux_sigmas(20, 4096)[-11:])
    for bad in ({"steps": 0}, {"denoise": 0.0}, {"denoise": 1.5}):
        with pytest.raises(InputError):
            flux_sigmas(**{"steps": 4, "tokens": 64, **bad})
    with pytest.raises(InputError, match="multiples of 16"):
        image_tokens(1000, 1024)


def test_euler_is_exact_for_a_straight_flow():
    start, seen = torch.randn(1, 4, 8), []
    target = torch.randn(1, 4, 8)
    out = euler(lambda x, s: start - target, start, flux_sigmas(4, 64), lambda *a: seen.append(a[:2]))
    torch.testing.assert_close(out, target)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_callback_that_raises_stops():
    def stop(*arguments):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        euler(lambda x, s: x, torch.zeros(1), flux_sigmas(4, 64), stop)

"""Pictures made to bring a server down: refused at once, or decoded for what their pixels cost."""

from __future__ import annotations

import pytest

from benchmarks.pictures import BOMBS
from benchmarks.refusals import measure
from edge_server.errors import ImageError
from edge_server.images.decode import decode_image
from tests.edge_server.images.test_decode import FORMATS, SWITCHED_ON, encoded_as, gradient

# Without protection they take from seconds to minutes, and hundreds of megabytes.
HANG_S = 5
MEMORY_BYTES = 8 * 10**6


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.name)
def test_a_bomb_costs_neither_time_nor_memory(bomb):
    cost = measure(bomb.make())
    assert cost.status == bomb.status
    assert cost.seconds < HANG_S
    assert cost.peak_bytes < MEMORY_BYTES


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_off_anywhere_is_answered(name):
    encoded = encoded_as(name, gradient(130, 90))
    answers = set()
    for percent in range(100):
        try:
            image = decode_image(
                encoded[: len(encoded) * percent // 100], max_pixels=130 * 90, formats=SWITCHED_ON
            )
            answers.add(image.shape)
        except ImageError:
            answers.add("refused")
    assert answers <= {"refused", (90, 130, 3)}
    assert "refused" in answers


@pytest.mark.parametrize("body", FORMATS)
@pytest.mark.parametrize("start", FORMATS)
def test_first_bytes_of_one_format_before_another_are_answered(start, body):
    mixed = encoded_as(start)[:18] + encoded_as(body)
    try:
        image = decode_image(mixed, max_pixels=26 * 18, formats=SWITCHED_ON)
    except ImageError:
        return
    assert "jpeg" in start  # what stands between two segments is passed over
    assert "jpeg" in body
    assert image.shape == (18, 26, 3)

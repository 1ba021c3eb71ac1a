"""The gathering kernel on a card against its NumPy twin."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_preprocess import pieces_of, tiled_panels  # pyright: ignore[reportMissingImports]

from engines import kernels, preprocess
from engines.cuda import Device, Stream
from engines.preprocess import LIVING_BLOCKS, ROW, THREADS, Piece, gathered
from engines.recipe import Tiles

TOLERANCE = 1e-3
Run = Callable[[list[Piece], tuple[int, int, int], str, str], NDArray]


@pytest.fixture
def run(device: Device) -> Run:
    """Gather pieces on the card: the batch as it comes back."""
    code = kernels.cubin(device.card.arch)
    stream = Stream(device)

    def brought(array: NDArray | None, held: list) -> int:
        if array is None:
            return 0
        held.append(device.allocate(array.nbytes, "a test"))
        stream.copy_in(int(held[-1]), np.ascontiguousarray(array))
        return int(held[-1])

    def living(piece: Piece, pixels: int, gain: int, held: list) -> int:
        if piece.living is None or piece.pixels is None:
            return 0
        planes, dtype = len(piece.pixels), str(piece.pixels.dtype)
        found = brought(np.zeros(planes, np.uint32), held)
        function = device.function(code, f"living_{dtype}")
        top, count = np.float32(np.iinfo(piece.pixels.dtype).max), np.int64(piece.pixels[0].size)
        arguments = np.uint64(pixels), np.uint64(gain), np.uint64(found), count, top
        stream.launch(function, (LIVING_BLOCKS, planes, 1), (THREADS, 1, 1), *arguments)
        return found

    def gathering(pieces: list[Piece], shape: tuple[int, int, int], dtype: str, out: str) -> NDArray:
        rows, held = np.zeros(len(pieces), ROW), []
        for number, piece in enumerate(pieces):
            pixels, gain = brought(piece.pixels, held), brought(piece.gain, held)
            height, width = (0, 0) if piece.pixels is None else piece.pixels.shape[1:]
            lives = living(piece, pixels, gain, held)
            entry = pixels, gain, brought(piece.ready, held), lives, height, width, piece.top, piece.left
            rows[number] = entry
        batch = device.pinned((len(pieces), *shape), out)
        counters = np.zeros(len(pieces) * shape[0], np.uint32)
        table, there, seen, done = (brought(each, held) for each in (rows, batch, counters, counters))
        function = device.function(code, preprocess.kernel_name(dtype, out))
        pointers = (np.uint64(each) for each in (table, there, seen, done))
        sides, top = (np.int32(side) for side in shape), np.float32(np.iinfo(dtype).max)
        grid = preprocess.grid_of(len(pieces), shape)
        stream.launch(function, grid, (THREADS, 1, 1), *pointers, *sides, top, preprocess.scale_of(dtype))
        stream.copy_out(batch, there)
        stream.wait("gathering")
        for each in held:
            device.release(each)
        return batch

    return gathering


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=tiled_panels(), out=st.sampled_from(["float32", "float16"]))
def test_the_kernel_does_as_its_twin(run: Run, drawn: tuple[Tiles, NDArray, NDArray | None], out: str) -> None:
    geometry, frames, gain = drawn
    shape = (len(frames), geometry.height, geometry.width)
    ready = np.random.default_rng(0).random(shape, dtype=np.float32)
    pieces = [*pieces_of(geometry, frames, gain), Piece(ready=ready)]
    found = run(pieces, shape, str(frames.dtype), out)
    expected = gathered(pieces, shape, str(frames.dtype), out)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
    dark = expected.max(axis=(2, 3)) < 1e-4  # specks are smaller than the tolerance, and count
    np.testing.assert_array_equal(found.max(axis=(2, 3))[dark], expected.max(axis=(2, 3))[dark])


def test_a_large_panel_in_many_tiles(run: Run) -> None:
    frames = np.random.default_rng(0).integers(0, 65535, (4, 1500, 2048), dtype=np.uint16)
    geometry = Tiles(height=512, width=512, halo=64, grid=32)
    pieces = pieces_of(geometry, frames, None)
    found = run(pieces, (4, 512, 512), "uint16", "float16")
    np.testing.assert_allclose(found, gathered(pieces, (4, 512, 512), "uint16", "float16"), atol=TOLERANCE)

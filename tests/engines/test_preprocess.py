"""The kernel's NumPy twin against the path that teaching and the CPU runtimes take; and that the kernel compiles."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from processor_card import kernels_here, launched

from engines import kernels, preprocess, tiles
from engines.errors import EngineError, UsageError
from engines.gather import Gather
from engines.preprocess import ROW, Piece, gathered
from engines.recipe import Resize, Tiles
from engines.station import StationCalibration

MOST_REGISTERS = 64


@st.composite
def tiled_panels(draw: st.DrawFn) -> tuple[Tiles, NDArray, NDArray | None]:
    grid = draw(st.sampled_from([8, 16]))
    halo = grid * draw(st.integers(0, 2))
    tile = 2 * halo + grid * draw(st.integers(4, 6))
    height, width = (draw(st.integers(20, 150)) for _ in range(2))
    dtype = draw(st.sampled_from(["uint8", "uint16"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames = random.integers(0, np.iinfo(dtype).max, (3, height, width), dtype=dtype, endpoint=True)
    frames[1, : height // 2] = 0  # tiles in which a living channel shows nothing
    frames[2] *= draw(st.booleans())  # a channel that is lost
    gain = random.uniform(0.5, 2, frames.shape).astype(np.float32) if draw(st.booleans()) else None
    return Tiles(height=tile, width=tile, halo=halo, grid=grid), frames, gain


def pieces_of(geometry: Tiles, frames: NDArray, gain: NDArray | None) -> list[Piece]:
    alive = preprocess.living(frames, gain)
    places = tiles.tiles(geometry, (frames.shape[1], frames.shape[2]))
    return [Piece(frames, gain, None, alive, one.rows.start, one.columns.start) for one in places]


@settings(max_examples=60)
@given(tiled_panels())
def test_the_twin_is_the_gather_that_was_there(drawn: tuple[Tiles, NDArray, NDArray | None]) -> None:
    geometry, frames, gain = drawn
    gather = Gather(len(frames), geometry, str(frames.dtype))
    expected = np.stack(list(gather.rows(StationCalibration(gain).apply(frames))))
    found = gathered(pieces_of(geometry, frames, gain), gather.shape, str(frames.dtype))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(expected, expected.astype(np.float16), rtol=1e-3, atol=1e-4)


def test_a_whole_panel_and_a_finished_row() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (2, 40, 48), dtype=np.uint8)
    gather = Gather(2, Resize(height=40, width=48), "uint8")
    row = np.empty(gather.shape, np.float32)
    gather(frames, row)
    found = gathered([Piece(frames), Piece(ready=row)], gather.shape, "uint8")
    np.testing.assert_array_equal(found[0], row)
    np.testing.assert_array_equal(found[1], row)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_every_kernel_compiles_within_its_registers(arch: str, tmp_path: Path) -> None:
    code, report = compiled(arch)
    found = {one.kernel: one for one in kernels.usage(report)}
    types = [(dtype, out) for dtype in ("uint8", "uint16") for out in ("float32", "float16")]
    assert {preprocess.kernel_name(*each) for each in types} <= found.keys() and len(found) == 6
    assert all(one.registers <= MOST_REGISTERS and not one.spilled for one in found.values()), found
    assert code.startswith(b"\x7fELF")
    assert (
        kernels.cubin(arch, kept=tmp_path) == kernels.cubin(arch, kept=tmp_path) and len(list(tmp_path.iterdir())) == 1
    )


def compiled(arch: str, text: str | None = None) -> tuple[bytes, str]:
    try:
        return kernels.compiled(text or kernels.source(), kernels.PREPROCESS, arch)
    except UsageError as missing:
        pytest.skip(f"neither nvcc nor the run-time compiler: {missing}")


def test_a_damaged_cache_is_compiled_anew(tmp_path: Path) -> None:
    compiled("sm_90")
    whole = kernels.cubin("sm_90", kept=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert kernels.cubin("sm_90", kept=tmp_path) == whole


def test_a_mistake_in_a_kernel_is_one_line() -> None:
    compiled("sm_90")
    with pytest.raises(EngineError, match=r'preprocess.cu: does not compile for sm_90: .*"nothing"') as raised:
        compiled("sm_90", "__global__ void f() { nothing; }")
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def on_the_processor(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return kernels_here(tmp_path_factory.mktemp("kernel"))


@settings(max_examples=40)
@given(drawn=tiled_panels(), out=st.sampled_from(["float32", "float16"]))
def test_the_kernels_source_does_as_its_twin(
    on_the_processor: ctypes.CDLL, drawn: tuple[Tiles, NDArray, NDArray | None], out: str
) -> None:
    geometry, frames, gain = drawn
    shape = (len(frames), geometry.height, geometry.width)
    ready = np.random.default_rng(0).random(shape, dtype=np.float32)
    pieces = [*pieces_of(geometry, frames, gain), Piece(ready=ready)]
    dtype = str(frames.dtype)
    found, left = run_on_processor(on_the_processor, pieces, shape, dtype, out)
    np.testing.assert_array_equal(found, gathered(pieces, shape, dtype, out))
    assert not left.any()  # counters, for the next launch


def run_on_processor(
    library: ctypes.CDLL, pieces: list[Piece], shape: tuple[int, int, int], dtype: str, out: str
) -> tuple[NDArray, NDArray]:
    rows, kept = np.zeros(len(pieces), ROW), []
    for piece, row in zip(pieces, rows, strict=True):
        alive = None if piece.living is None else piece.living.astype(np.uint32)
        kept.append(alive)
        row["pixels"], row["gain"], row["ready"], row["living"] = map(
            _address, (piece.pixels, piece.gain, piece.ready, alive)
        )
        row["height"], row["width"] = (0, 0) if piece.pixels is None else piece.pixels.shape[1:]
        row["top"], row["left"] = piece.top, piece.left
    batch = np.full((len(pieces), *shape), np.nan, out)
    counters = np.zeros((2, len(pieces) * shape[0]), np.uint32)
    pointers = [np.uint64(_address(each)) for each in (rows, batch, counters[0], counters[1])]
    sides = [np.int32(side) for side in shape]
    top, scale = np.float32(np.iinfo(dtype).max), preprocess.scale_of(dtype)
    grid = preprocess.grid_of(len(pieces), shape)
    launched(library, preprocess.kernel_name(dtype, out), grid, (*pointers, *sides, top, scale))
    return batch, counters


def _address(array: NDArray | None) -> int:
    return 0 if array is None else array.ctypes.data

"""Memory, streams, graphs and errors of a real card."""

import mmap
from functools import partial

import numpy as np
import pytest

from engines import cuda
from engines.cuda import Device, Stream
from engines.errors import LostDeviceError, OutOfDeviceMemoryError

ADD = 'extern "C" __global__ void add(float *x, float y) { x[threadIdx.x] += y; }'
SPIN = 'extern "C" __global__ void spin(long long ticks) { long long s = clock64(); while (clock64() - s < ticks) {} }'


def test_the_card_says_what_it_is(device: Device) -> None:
    card = cuda.card()
    assert card.name and card.capability >= (5, 0) and card.memory > 1 << 30 and card.processors > 0
    assert card.arch in card.identity and card.name in card.identity


def test_there_and_back_through_pinned_memory(device: Device) -> None:
    stream, there = Stream(device), device.allocate(4000, "a test")
    source, target = device.pinned((1000,), "float32"), device.pinned((1000,), "float32")
    source[:] = np.arange(1000)
    stream.copy_in(int(there), source)
    stream.copy_out(target, int(there))
    stream.wait("copying")
    np.testing.assert_array_equal(target, source)
    stream.fill_nan(int(there), 500)
    stream.fill_zero(int(there) + 2000, 500)
    stream.copy_out(target, int(there))
    stream.wait("filling")
    assert np.isnan(target[:500]).all() and not target[500:].any()
    device.release(there)


def test_a_mapped_ring_is_read_in_place(device: Device) -> None:
    ring = np.frombuffer(mmap.mmap(-1, 1 << 16), np.uint8)
    assert not device.is_pinned(ring)
    device.register(ring)
    device.register(ring[100:200])  # lies inside
    assert device.is_pinned(ring[4096:8192]) and not device.is_pinned(np.zeros(4, np.uint8))
    stream, there, back = Stream(device), device.allocate(1 << 16, "a test"), device.pinned((1 << 16,), "uint8")
    ring[:] = np.arange(1 << 16) % 251
    stream.copy_in(int(there), ring)
    stream.copy_out(back, int(there))
    stream.wait("copying")
    np.testing.assert_array_equal(back, ring)
    device.release(there)


def test_a_graph_does_again_what_was_captured(device: Device) -> None:
    code, _ = cuda.compiled(ADD, "add.cu", device.card.arch)
    function, stream = device.function(code, "add"), Stream(device)
    there, back = device.allocate(128, "a test"), device.pinned((32,), "float32")

    def work() -> None:
        stream.launch(function, (1, 1, 1), (32, 1, 1), np.uint64(int(there)), np.float32(1.5))
        stream.copy_out(back, int(there))

    stream.fill_zero(int(there), 32)
    graph = stream.capture(work)
    stream.wait("capturing")
    for times in range(1, 4):
        graph.launch()
        stream.wait("a graph")
        np.testing.assert_array_equal(back, 1.5 * times)
    graph.free()
    device.release(there)


def test_streams_join_at_events(device: Device) -> None:
    code, _ = cuda.compiled(ADD, "add.cu", device.card.arch)
    function, first, second = device.function(code, "add"), Stream(device), Stream(device)
    there, back = device.allocate(128, "a test"), device.pinned((32,), "float32")
    first.fill_zero(int(there), 32)
    for _ in range(50):
        first.launch(function, (1, 1, 1), (32, 1, 1), np.uint64(int(there)), np.float32(1))
    second.follow(first.mark())
    second.copy_out(back, int(there))
    second.wait("joining")
    np.testing.assert_array_equal(back, 50)
    device.release(there)


def test_memory_that_is_not_there_is_said_in_bytes(device: Device) -> None:
    with pytest.raises(OutOfDeviceMemoryError, match=r"allocating [\d,]+ bytes for a test"):
        device.allocate(1 << 50, "a test")
    device.release(device.allocate(1 << 20, "a test"))  # and the card goes on


def test_a_run_that_takes_too_long_is_given_up(device: Device) -> None:
    code, _ = cuda.compiled(SPIN, "spin.cu", device.card.arch)
    function, stream = device.function(code, "spin"), Stream(device)
    stream.launch(function, (1, 1, 1), (1, 1, 1), np.int64(1_000_000_000))  # about half a second
    with pytest.raises(LostDeviceError, match=r"spinning: no answer within 0.05 s"):
        stream.wait("spinning", 0.05)
    assert device.lost
    with pytest.raises(LostDeviceError, match="stopped answering before"), device.current():
        pass
    device.lost = False  # it was not: the rest of the tests use it
    stream.wait("spinning", 10)


def test_contexts_are_current_in_one_thread_at_a_time(device: Device) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def other() -> int:
        with device.current():
            return device.free_bytes()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(other).result() > 0
    assert partial(device.free_bytes)() > 0

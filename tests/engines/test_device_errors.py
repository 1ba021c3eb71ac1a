"""What the driver and libraries say, as our errors: no card is needed to know what an error means."""

from pathlib import Path

import pytest

from engines import lanes
from engines.cuda import Card, driver_version
from engines.device_errors import MEANINGS, code_in, device_error, other_card, out_of_memory
from engines.errors import DeviceError, EngineError, LostDeviceError, OutOfDeviceMemoryError, TaktError
from engines.waiting import wait_until

LOST = (4, 214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999)


@pytest.mark.parametrize("code", MEANINGS)
def test_every_code_is_known_by_its_number_and_by_its_text(code: int) -> None:
    said = f"cuSomething failed: {MEANINGS[code].text}"
    assert code_in(said) == code
    by_text, by_number = device_error("inspecting", None, said), device_error("inspecting", code)
    assert type(by_text) is type(by_number) and str(by_text) == str(by_number)
    assert "\n" not in str(by_text) and "inspecting" in str(by_text) and isinstance(by_text, EngineError)
    assert isinstance(by_text, LostDeviceError) == (code in LOST)
    assert isinstance(by_text, TaktError) and by_text.exit_status == 3


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("cuInit failed: no CUDA-capable device is detected", 100),
        ("CUDA error: out of memory", 2),
        ("CUDA out of memory. Tried to allocate 20.00 MiB", 2),
        ("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be", 700),
        ("cuStreamQuery failed: unspecified launch failure", 719),
        ("(cudaError 35: CUDA driver version is insufficient for CUDA runtime version)", 35),
        ("the graph has a cycle", None),
    ],
)
def test_libraries_words_for_it(said: str, code: int | None) -> None:
    assert code_in(said) == code


def test_no_card_and_an_old_driver_say_what_to_do() -> None:
    assert "there is no NVIDIA card" in str(device_error("looking for the card", 100))
    assert "its driver is too old: update it" in str(device_error("starting", 35))
    assert str(device_error("starting", 12345)) == "GPU, starting: error 12345 of the driver"
    assert str(device_error("starting", None, "\n odd \nthing")) == "GPU, starting: odd"


def test_memory_that_is_missing_is_stated_in_bytes_with_the_batch() -> None:
    error = out_of_memory("network.onnx", 64, 6_000_000_000, 1_500_000_000)
    assert isinstance(error, OutOfDeviceMemoryError)
    for part in ("network.onnx: batch 64", "6,000,000,000 bytes", "1,500,000,000 bytes", "engine.max_batch to 32"):
        assert part in str(error)
    assert "take a lower precision" in str(out_of_memory("n", 1, 10, 1))
    assert isinstance(device_error("allocating 5 bytes", 2), OutOfDeviceMemoryError)


def test_an_engine_of_another_card_names_both() -> None:
    told = "n: the engine is of NVIDIA A, this is NVIDIA B: takt build it here"
    assert str(other_card("n", "NVIDIA A", "NVIDIA B")) == told
    refused = lanes.refused("n", "tensorrt_rtx", "The engine was built for compute capability 8.9", "NVIDIA B sm_90")
    assert isinstance(refused, DeviceError) and "takt build it here" in str(refused)
    old = lanes.refused("n", "tensorrt", "CUDA driver version is insufficient for CUDA runtime version", "NVIDIA B")
    assert isinstance(old, DeviceError) and "driver is too old" in str(old)
    assert "tensorrt cannot load it on NVIDIA B: odd" in str(lanes.refused("n", "tensorrt", "odd", "NVIDIA B"))


def test_a_card_that_does_not_compute_in_a_precision_is_named_with_what_it_takes() -> None:
    card = Card(0, "NVIDIA A", (8, 0), 1 << 30, 108, 13000, "580.1")
    for precision in ("fp32", "fp16", "bf16", "int8"):
        lanes.check_precision(precision, card)
    with pytest.raises(DeviceError, match=r"fp8 needs compute capability 8.9, NVIDIA A has 8.0: take fp16 or int8"):
        lanes.check_precision("fp8", card)


def test_a_card_that_does_not_answer_is_lost_and_not_waited_for() -> None:
    answers = iter([False, False, True])
    wait_until(lambda: next(answers), "inspecting", 10)
    with pytest.raises(LostDeviceError, match=r"inspecting: no answer within 0.01 s; this process has to start anew"):
        wait_until(lambda: False, "inspecting", 0.01)


def test_the_drivers_version_is_read_where_the_system_states_it(tmp_path: Path) -> None:
    file = tmp_path / "version"
    assert driver_version(file) == ""
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\n")
    assert driver_version(file) == "580.159.04"


@pytest.mark.parametrize("largest", [1, 2, 3, 9, 17, 65])
def test_every_batch_has_a_graph_that_is_not_much_larger(largest: int) -> None:
    captured = lanes.sizes(largest)
    assert captured[-1] == largest and list(captured) == sorted(set(captured))
    for rows in range(1, largest + 1):
        size = lanes.padded(rows, captured)
        assert rows <= size <= max(rows * 4 / 3, rows + 1)

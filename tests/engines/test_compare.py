"""The comparison equals its plain loop, row by row, in numpy and in torch."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engines.compare import (
    channel_sum,
    cosine_distance,
    flattened_distance,
    fuse,
    gaussian,
    interpolation,
    top_mean,
    value_distance,
)

FEATURES = arrays(np.float32, (3, 4, 5, 2), elements=st.floats(0, 100, width=32))


def distance_by_loop(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    count, _, height, width = teacher.shape
    result = np.ones((count, height, width))
    for n, y, x in np.ndindex(result.shape):
        t, s = teacher[n, :, y, x].astype(float), student[n, :, y, x].astype(float)
        result[n, y, x] = 1 - t @ s / np.sqrt(max((t @ t) * (s @ s), 1e-8))
    return result


@given(FEATURES, FEATURES)
def test_distance_matches_the_loop(teacher: np.ndarray, student: np.ndarray) -> None:
    np.testing.assert_allclose(cosine_distance(teacher, student), distance_by_loop(teacher, student), atol=1e-5)


@given(FEATURES, arrays(np.float32, (1, 4), elements=st.floats(0, 4, width=32)))
def test_weights_of_channels_act_as_features_scaled_by_their_roots(features: np.ndarray, weights: np.ndarray) -> None:
    other, scale = features[:, ::-1].copy(), np.sqrt(weights).reshape(1, 4, 1, 1)
    np.testing.assert_allclose(channel_sum(features), features.sum(1), rtol=1e-5, atol=1e-5)
    for distance in (cosine_distance, value_distance):
        found, scaled = distance(features, other, weights), distance(features * scale, other * scale)
        np.testing.assert_allclose(found, scaled, rtol=1e-4, atol=1e-4)


@given(FEATURES, FEATURES)
def test_rows_of_a_batch_equal_single_results(teacher: np.ndarray, student: np.ndarray) -> None:
    rows, columns = [interpolation(7, 5, 1.0)], [interpolation(6, 2, 1.0)]
    whole = fuse([cosine_distance(teacher, student)], rows, columns)
    for row in range(3):
        single = fuse([cosine_distance(teacher[row : row + 1], student[row : row + 1])], rows, columns)
        np.testing.assert_allclose(whole[row], single[0], atol=1e-6)


@given(FEATURES, FEATURES)
def test_torch_and_numpy_agree(teacher: np.ndarray, student: np.ndarray) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra [teach]")
    traced = cosine_distance(torch.from_numpy(teacher), torch.from_numpy(student))
    plain = cosine_distance(teacher, student)
    np.testing.assert_allclose(traced.numpy(), plain, atol=1e-5)
    np.testing.assert_allclose(top_mean(traced, 3).numpy(), top_mean(plain, 3), atol=1e-5)
    for distance in (flattened_distance, value_distance):
        traced = distance(torch.from_numpy(teacher), torch.from_numpy(student))
        np.testing.assert_allclose(traced.numpy(), distance(teacher, student), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("distance", [cosine_distance, flattened_distance])
def test_the_exported_distance_answers_where_a_map_is_zero_or_faint(distance: Callable, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra [teach]")
    ort = pytest.importorskip("onnxruntime")

    class Distance(torch.nn.Module):
        def forward(self, teacher: Any, student: Any) -> Any:
            return distance(teacher, student)

    random = np.random.default_rng(0)
    teacher, student = random.random((2, 2, 4, 3, 3), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        example = (torch.from_numpy(teacher), torch.from_numpy(student))
        torch.onnx.export(
            Distance(),
            example,
            tmp_path / "d.onnx",
            dynamo=True,
            opset_version=20,
            input_names=["t", "s"],
            verbose=False,
        )
    session = ort.InferenceSession(tmp_path / "d.onnx", providers=["CPUExecutionProvider"])
    for factor in (0, 1e-9, 1e-5, 1):
        (answer,) = session.run(None, {"t": teacher * np.float32(factor), "s": student})
        np.testing.assert_allclose(answer, distance(teacher * np.float32(factor), student), atol=1e-6)
        assert factor or (answer == 1).all()


@given(FEATURES, FEATURES)
def test_flattened_and_value_distances_match_their_loops(teacher: np.ndarray, student: np.ndarray) -> None:
    flat = [each.reshape(3, -1).astype(float) for each in (teacher, student)]
    loop = [1 - t @ s / np.sqrt(max((t @ t) * (s @ s), 1e-8)) for t, s in zip(*flat, strict=True)]
    np.testing.assert_allclose(flattened_distance(teacher, student), loop, atol=1e-5)
    squares = np.zeros((3, 5, 2))
    for n, c, y, x in np.ndindex(teacher.shape):
        squares[n, y, x] += (float(teacher[n, c, y, x]) - float(student[n, c, y, x])) ** 2 / 4
    np.testing.assert_allclose(value_distance(teacher, student), squares, rtol=1e-4, atol=1e-5)


def test_a_minute_defect_shows_at_its_location_and_hardly_in_the_flattened_map() -> None:
    teacher = np.ones((1, 4, 32, 32), np.float32)
    student = teacher.copy()
    student[0, 0, 7, 9] = -3
    assert cosine_distance(teacher, student).max() > 0.9
    assert flattened_distance(teacher, student)[0] < 0.01


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 4))
def test_interpolation_keeps_a_constant(size: int, source: int, sigma: float) -> None:
    np.testing.assert_allclose(interpolation(size, source, sigma).sum(axis=1), 1, atol=1e-5)


def test_no_smoothing_and_no_growth_change_nothing() -> None:
    np.testing.assert_array_equal(interpolation(5, 5, 0), np.eye(5))
    np.testing.assert_array_equal(gaussian(5, 0), np.eye(5))


def test_top_mean_takes_the_largest() -> None:
    maps = np.array([[[1, 5], [3, 2]], [[0, 0], [9, 0]]], float)
    np.testing.assert_array_equal(top_mean(maps, 2), [4, 4.5])

"""The least of each row by comparison, against NumPy."""

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from subspect.export.argmin import spell_out_argmin


def made(shape, *, mode="min", axis=1, count=1, output=1):
    """A model of one TopK, after the change."""
    values = ops.parameter(shape, np.float32)
    found = ops.topk(values, np.array(count), axis, mode, "value", index_element_type="i64")
    model = openvino.Model([found.output(output)], [values])
    spell_out_argmin(model)
    return model


def sorts(model):
    return any(node.get_type_name() == "TopK" for node in model.get_ops())


def test_the_first_of_the_least_is_found_without_sorting():
    model = made([-1, 37])
    assert not sorts(model)
    rng = np.random.default_rng(3)
    values = rng.integers(-4, 4, (200, 37)).astype(np.float32)  # most rows have several
    values[7] = 1e30
    found = openvino.compile_model(model, "CPU")(values)[0]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, values.argmin(1)[:, None])


def test_places_are_not_rounded_in_bfloat16():
    """Between two products, where OpenVINO rounds everything that is no whole number."""
    codes = np.stack(np.divmod(np.arange(1024, dtype=np.float32), 32), 1)  # numbers that bfloat16 holds
    values = ops.parameter([-1, 1024], np.float32)
    distances = ops.matmul(values, np.eye(1024, dtype=np.float32), False, False)
    found = ops.topk(distances, np.array(1), 1, "min", "value", index_element_type="i64")
    taken = ops.gather(ops.constant(codes), ops.squeeze(found.output(1), np.array([1])), np.array(0))
    model = openvino.Model([ops.matmul(taken, np.eye(2, dtype=np.float32), False, False)], [values])
    spell_out_argmin(model)
    places = np.random.default_rng(4).integers(0, 1024, 300)
    given = np.ones((300, 1024), np.float32)
    given[np.arange(300), places] = 0
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    np.testing.assert_array_equal(compiled(given)[0], codes[places])


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ([-1, 9], {"mode": "max"}),
        ([-1, 9], {"count": 2}),
        ([9, 5], {"axis": 0}),
        ([-1, -1], {}),
        ([2, 3, 4], {}),
        ([-1, 9], {"output": 0}),
    ],
)
def test_other_sorts_stay(shape, options):
    assert sorts(made(shape, **options))

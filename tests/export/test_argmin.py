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

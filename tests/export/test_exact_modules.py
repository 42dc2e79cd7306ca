"""What stays in float32 when a detector's convolutions go to int8."""

import math

import pytest

from subspect.detectors.dsr.normal_codes import CELLS
from subspect.export.combinations import ExportOptions
from subspect.export.formats import write_model
from subspect.export.quantisation import kept_nodes
from tiny import DSR, settled_detector, write_pictures

EXACT = ("latent_model.high_encoder", "latent_model.low_projection", "detection", "upsampling")
ROUNDED = ("latent_model.decoder", "low_subspace", "high_subspace", "object_decoder")


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory):
    """A folder of DSR in int8; its convolutions in float32 and in int8, and which of these are rounded."""
    folder = tmp_path_factory.mktemp("exact")
    detector = settled_detector("dsr", folder)
    pictures = tuple(write_pictures(folder / "pictures", 2, (64, 64)))
    write_model(detector, folder, ExportOptions())
    every, _ = read_convolutions(folder / "model.onnx")
    write_model(detector, folder, ExportOptions(precision="int8", normal_images=pictures))
    write_model(detector, folder, ExportOptions("openvino", "int8", normal_images=pictures))
    return folder, every, *read_convolutions(folder / "model.onnx")


def read_convolutions(path):
    """Names of all convolutions and, of them, of those whose input and weights went through int8."""
    import onnx

    graph = onnx.load(path).graph
    made_by = {name: node for node in graph.node for name in node.output}

    def rounded(name):
        return name in made_by and made_by[name].op_type == "DequantizeLinear"

    nodes = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    names = {node.name: weight_name(node, made_by) for node in nodes}
    return names, {node.name for node in nodes if all(map(rounded, node.input[:2]))}


def weight_name(node, made_by):
    """The weight's name in PyTorch, also behind its dequantisation."""
    name = node.input[1]
    while name in made_by:
        name = made_by[name].input[0]
    return name


def within(names, modules):
    return {
        name for name, weight in names.items() if weight.startswith(tuple(f"detector.{m}." for m in modules))
    }


def test_modules_that_must_be_exact_are_and_the_others_are_not(convolutions):
    _, before, after, rounded = convolutions
    assert before.keys() == after.keys()
    for module in EXACT:
        assert within(before, [module])
    assert not within(before, EXACT) & rounded
    assert within(before, ROUNDED) <= rounded


def test_exact_modules_that_are_not_found_are_errors(convolutions, tmp_path):
    import onnx

    detector = settled_detector("dsr", tmp_path)
    detector.exact = ("detection", "detektion")
    with pytest.raises(ValueError, match=r"dsr has no modules detektion, which"):
        write_model(detector, tmp_path, ExportOptions())
    model = onnx.load(convolutions[0] / "model.onnx")  # where weights of int8 are behind their dequantisation
    with pytest.raises(ValueError, match=r"low_subspace is to stay exact, but no convolution"):
        kept_nodes(model, ["detection", "low_subspace"])
    assert kept_nodes(model, ["detection"])


def test_openvino_rounds_the_same(convolutions):
    import openvino

    folder, _, after, rounded = convolutions
    found = {True: 0, False: 0}
    for operation in openvino.Core().read_model(folder / "model.xml").get_ops():
        if operation.get_type_name() in ("Convolution", "ConvolutionBackpropData", "GroupConvolution"):
            read = operation.input_value(0).get_node().get_friendly_name()
            found[read.startswith("DequantizeLinear")] += 1
    assert found == {True: len(rounded), False: len(after) - len(rounded)}


def test_exports_leave_out_what_only_training_needs(convolutions):
    import onnx

    weights = onnx.load(convolutions[0] / "model.onnx").graph.initializer
    halves = [math.prod(weight.dims) for weight in weights if weight.data_type == onnx.TensorProto.FLOAT16]
    groups = DSR.latent.low_groups, DSR.latent.high_groups  # a table each, without those that leave out a fold
    assert sorted(halves) == sorted(count * DSR.latent.codes * CELLS**2 for count in groups)

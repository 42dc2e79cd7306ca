"""InstanceNorms that PyTorch is given as GroupNorms: which ones exporters are told of, what they compute."""

import pytest
import torch
from torch import nn

from subspect.detectors.dsr.blocks import instance_norm
from subspect.export.combinations import ExportOptions
from subspect.export.formats import write_model
from subspect.export.instance_norm import name_instance_norms
from tiny import settled_detector

AFFINE = nn.GroupNorm(4, 4)
GROUPED = nn.GroupNorm(2, 4, affine=False)


class Norms(nn.Module):
    """Some norms after one another, in a graph of its own where autocast is switched."""

    def __init__(self, *norms):
        super().__init__()
        self.norms = nn.Sequential(*norms)

    def forward(self, images):
        with torch.autocast("cpu", enabled=False):
            return self.norms(images)


def exported(*norms):
    images = torch.randn(3, 4, 6, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    dynamic = (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),)
    return images, torch.export.export(Norms(*norms).eval(), (images,), dynamic_shapes=dynamic)


def test_they_compute_what_they_did():
    images, program = exported(instance_norm(4))
    name_instance_norms(program)
    varying, mean = images.var((2, 3), correction=0, keepdim=True), images.mean((2, 3), keepdim=True)
    torch.testing.assert_close(program.module()(images), (images - mean) / (varying + 1e-5).sqrt())


@pytest.mark.parametrize(
    ("norms", "operators"),
    [
        ((instance_norm(4),), ["InstanceNormalization"]),
        ((instance_norm(4), nn.ReLU(), instance_norm(4)), ["InstanceNormalization", "Relu"] * 2),
    ],
)
def test_exporters_write_them_as_one_operator(norms, operators):
    _, program = exported(*norms)
    name_instance_norms(program)
    written = [node.op_type for node in torch.onnx.export(program, dynamo=True, verbose=False).model.graph]
    assert written == operators[: len(norms)]


@pytest.mark.parametrize("norm", [AFFINE, GROUPED])
def test_other_norms_stay_what_they_are(norm):
    images, program = exported(norm)
    before = program.module()(images)
    name_instance_norms(program)
    targets = [
        node.target
        for module in program.graph_module.modules()
        if isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes
    ]
    assert torch.ops.aten.group_norm.default in targets
    assert torch.equal(program.module()(images), before)


def test_openvino_normalises_maps_as_they_lie(tmp_path):
    import openvino

    write_model(settled_detector("dsr", tmp_path), tmp_path, ExportOptions("openvino"))
    operations = openvino.Core().read_model(tmp_path / "model.xml").get_ops()
    norms = [operation for operation in operations if operation.get_type_name() == "MVN"]
    assert norms
    assert all(norm.input_value(0).get_partial_shape().rank.get_length() == 4 for norm in norms)

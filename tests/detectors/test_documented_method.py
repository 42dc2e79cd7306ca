"""The method that docs/add_a_method.md adds does what the page says, by the commands that it names."""

import json
import re
import shlex
import shutil
from importlib import import_module

import numpy as np
import pytest
import torch

from documented import PAGE, documented_method
from subspect.cli import main
from subspect.detectors import registry
from subspect.storage import load_detector
from tiny import write_data_set


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    with documented_method(tmp_path_factory.mktemp("documented")) as name:
        yield name


def test_it_is_there_only_while_it_is_tested(tmp_path):
    before = registry.METHODS
    with documented_method(tmp_path) as name:
        assert registry.find_method(name).build.__name__ == "VariationModel"
        assert {path.name for path in (tmp_path / name).glob("*.py")} == {
            "__init__.py", "config.py", "model.py", "stages.py",
        }  # fmt: skip
    assert before == registry.METHODS
    with pytest.raises(ModuleNotFoundError):
        import_module(f"subspect.detectors.{name}")


def test_a_template_is_mean_and_deviation_of_each_pixel(method):
    module = import_module(f"subspect.detectors.{method}.model")
    images = torch.rand(11, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images[:, :, 2, 2] = 0.25  # never changes
    template = module.Template((5, 4), least=0.02).double()
    for batch in images.split(4):
        template.add(batch)
    mean, deviation = images.numpy().mean(0), images.numpy().std(0)
    np.testing.assert_allclose(template.mean, mean, rtol=1e-12)
    asked = mean + 3 * deviation * np.array([1, -0.5, 0.2])[:, None, None]
    asked[:, 2, 2] = 0.25 + 0.05
    expected = np.full((5, 4), 3.0)
    expected[2, 2] = 0.05 / 0.02
    np.testing.assert_allclose(template(torch.from_numpy(asked)[None])[0, 0], expected, rtol=1e-9)


def test_the_commands_of_the_page_find_what_deviates(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_data_set(tmp_path / "photos", normal=27, defective=4)
    shutil.copytree(data / "defective", tmp_path / "new_photos")
    (block,) = re.findall(r"^```\n(subspect train .*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        assert main(shlex.split(line)[1:]) == 0
    assert load_detector(tmp_path / "runs/variation/detector").template.count == 18
    rows = [json.loads(line) for line in (tmp_path / "found/results.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in rows] == ["anomalous"] * 4

"""Spans as PyTorch's profiler and counter see them, against sizes and counts that are known beforehand."""

import pytest
import torch
from torch import nn

from subspect.profiling.peak import measure_peak
from subspect.profiling.recording import Recorder, count_flops, marked_modules, typical
from subspect.spans import Span

CPU = torch.device("cpu")
MEGABYTE = 250_000  # in floats
CONVOLUTION = 2 * 2 * 8 * 64 * 64 * 3 * 9  # 2 images, 3 to 8 channels, 3x3, 64x64


def record(work, repetitions=2):
    with Recorder(repetitions, CPU) as recorder:
        for _ in range(repetitions + 1):
            work()
            recorder.step()
    assert len(recorder.recorded) == repetitions  # the first warmed up
    return recorder.recorded


def test_flops_of_convolutions_and_products_are_two_for_each_weight_at_each_place():
    network, images, square = nn.Conv2d(3, 8, 3, padding=1), torch.rand(2, 3, 64, 64), torch.rand(64, 64)

    def work():
        with Span("outer"):
            maps = network(images)
            with Span("inner"):
                product = maps @ square
        with Span("backward"):
            product.sum().backward()

    product = 2 * 2 * 8 * 64 * 64 * 64
    counted = count_flops(work)
    assert counted.parts == {
        "inner": product,
        "outer": CONVOLUTION + product,
        "backward": CONVOLUTION + product,
    }
    assert counted.own == {"inner": product, "outer": CONVOLUTION, "backward": CONVOLUTION + product}
    assert counted.total == 2 * (CONVOLUTION + product)  # no gradients of images and of `square`


def test_memory_is_the_most_held_at_once_above_the_beginning():
    kept = []

    def work():
        kept.clear()
        with Span("around"):
            kept.append(torch.empty(3 * MEGABYTE))
            with Span("one after the other"):
                for _ in range(3):
                    torch.empty(2 * MEGABYTE)
            with Span("together"):
                both = torch.empty(2 * MEGABYTE), torch.empty(5 * MEGABYTE)
                del both
        with Span("nothing"):
            pass

    for one in record(work):
        found = {name: part.memory / 1e6 for name, part in one.parts.items()}
        assert found == pytest.approx(
            {"around": 10, "one after the other": 2, "together": 7, "nothing": 0}, abs=0.01
        )


def test_times_of_parts_add_up_to_that_of_the_whole():
    square = torch.rand(200, 200)

    @Span("product")
    def multiply():
        return square @ square

    def work():
        with Span("all"):
            for _ in range(3):
                multiply()
            square.exp()

    for one in record(work, repetitions=3):
        everything, product = one.parts["all"], one.parts["product"]
        assert (everything.calls, product.calls) == (1, 3)
        assert 0 < product.seconds < everything.seconds <= one.seconds
        assert everything.own_seconds == pytest.approx(everything.seconds - product.seconds)
        assert product.own_seconds == product.seconds


def test_modules_are_spans_of_their_names_while_they_are_marked():
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()), nn.Conv2d(8, 1, 1))
    images = torch.rand(2, 3, 64, 64)
    with marked_modules(network):
        counted = count_flops(lambda: network(images))
    last = 2 * 2 * 64 * 64 * 8
    assert counted.parts == {"0": CONVOLUTION, "0.0": CONVOLUTION, "0.1": 0, "1": last}
    assert counted.own == {"0": 0, "0.0": CONVOLUTION, "0.1": 0, "1": last}
    assert count_flops(lambda: network(images)).parts == {}


def test_a_module_that_fails_leaves_no_span_open():
    network = nn.Sequential(nn.Linear(3, 4))
    with marked_modules(network), pytest.raises(RuntimeError, match="shapes"):
        network(torch.rand(2, 5))
    with Span("after"):
        pass
    assert count_flops(lambda: network(torch.rand(2, 3))).total == 2 * 2 * 3 * 4


def test_the_typical_repetition_is_that_of_median_duration():
    recorded = record(lambda: torch.rand(10), repetitions=3)
    durations = sorted(one.seconds for one in recorded)
    assert typical(recorded).seconds == durations[1]


def test_no_product_is_faster_than_the_peak():
    peak = measure_peak(torch.float32, CPU)
    with Recorder(5, CPU) as recorder:
        for _ in range(6):
            with Span("product"):
                torch.rand(512, 512) @ torch.rand(512, 512)
            recorder.step()
    rates = [2 * 512**3 / one.parts["product"].seconds for one in recorder.recorded]
    assert 0 < max(rates) <= 1.2 * peak  # the clock of the processor is not always the same

"""benchmarks/speed: two processes in alternation, and what their times say."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks/speed"


@pytest.fixture
def speed(monkeypatch):
    """The script's modules, imported as the script does."""
    monkeypatch.syspath_prepend(FOLDER)
    import comparisons
    import report
    import timing

    yield comparisons, timing, report
    for name in ("comparisons", "environments", "report", "timing"):
        del sys.modules[name]


def test_ratios_are_of_neighbours(speed):
    _, timing, _ = speed
    values = timing.Measured([1.0, 2.0, 4.0], [3.0, 2.0, 20.0], 10, 20, None).to_dict()
    assert values["ratio"] == {"median": 3.0, "least": 1.0, "most": 5.0}
    assert (values["our_median"], values["peer_median"]) == (2.0, 3.0)
    alone = timing.Measured([1.0, 2.0, 4.0], [], 10, None, None).to_dict()
    assert alone["ratio"] is alone["peer_median"] is None


def test_two_processes_take_turns(speed, tmp_path):
    comparisons, timing, _ = speed
    timer = timing.Timer(Path(sys.executable), tmp_path)
    small, large = (comparisons.Case("ours", "pixel_metrics", {"images": n, "size": 64}) for n in (2, 200))
    measured = timer.measure(comparisons.Comparison("metrics", "maps", small, large, repetitions=3))
    assert len(measured.ours) == len(measured.peer) == 3
    assert measured.to_dict()["ratio"]["least"] > 1  # a hundred times the pixels
    assert measured.our_memory < measured.peer_memory
    assert measured.our_memory > 20e6  # more than an interpreter without NumPy


def test_a_worker_that_fails_ends_the_run(speed, tmp_path):
    comparisons, timing, _ = speed
    timer = timing.Timer(Path(sys.executable), tmp_path)
    broken = comparisons.Case("ours", "pixel_metrics", {"images": 2, "size": 8})  # too small for the defect
    with pytest.raises(RuntimeError, match=r"pixel_metrics.*exit code 1"):
        timer.measure(comparisons.Comparison("metrics", "maps", broken, None))


def test_the_table_has_ratios_and_shares_of_the_peak(speed):
    _, timing, report = speed
    measured = timing.Measured([0.5, 0.5], [1.0, 1.5], 3_000_000, 4_000_000, 10**9).to_dict()
    machine = {"date": "2026-01-01", "cores": 1, "of": 2, "processor": "P", "load": 1, "ours": {}, "peer": ""}
    text = report.render({"machine": machine, "peak": 8e9, "comparisons": {"inference: DSR": measured}})
    assert "| DSR | 500 ms | 1.25 s | 2.5 (2 to 3) | 25% | 3 MB | 4 MB |" in text.splitlines()
    assert "peak 8.0 GFLOP/s" in text


def test_measurements_of_another_machine_are_told_apart(speed):
    import environments

    one = {"date": "2026-01-01", "load": 1.0, "cores": 1, "ours": {"torch": "2.12"}}
    assert environments.differences(one, one | {"date": "2026-02-02", "load": 3.0}) == []
    assert environments.differences(one, one | {"cores": 2, "ours": {"torch": "2.13"}}) == ["cores", "ours"]
    assert environments.differences({}, {"peer": ""}) == ["peer"]


def test_the_environment_is_made_anew_when_the_versions_change(speed, tmp_path, monkeypatch):
    import environments

    made = []
    monkeypatch.setattr(environments.venv, "create", lambda folder, **_: made.append("environment"))
    monkeypatch.setattr(environments.subprocess, "run", lambda words, check: made.append(words[5]))
    monkeypatch.setattr(environments, "version", lambda name: "1.0")
    for _ in range(2):
        environments.make_environment(tmp_path)
    assert made == ["environment", "torch==1.0"]
    monkeypatch.setattr(environments, "version", lambda name: "1.1")
    environments.make_environment(tmp_path)
    assert made[2:] == ["environment", "torch==1.1"]


def test_no_two_comparisons_have_the_same_name(speed):
    comparisons, _, _ = speed
    names = [f"{one.group}: {one.name}" for one in comparisons.COMPARISONS]
    assert len(set(names)) == len(names)

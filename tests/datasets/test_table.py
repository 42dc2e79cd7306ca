from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest

from subspect.datasets.table import Sample, Table, hold_out_calibration, take_anomalies


def sample(
    name: str, split: str = "train", defect: str = "good", group: str = "", category: str = "a"
) -> Sample:
    masks = (Path(f"{name}_mask"),) if defect != "good" else ()
    return Sample(Path(name), split, category, defect, masks, group=group)


def table(*samples: Sample) -> Table:
    return Table(samples, "folder", Path("root"))


def names(samples: Table) -> list[str]:
    return [s.path.name for s in samples]


def test_select_joins_its_conditions():
    t = table(sample("1"), sample("2", "test"), sample("3", "test", "dent"), sample("4", category="b"))
    assert t.categories == ("a", "b")
    assert names(t.select(split="test")) == ["2", "3"]
    assert names(t.select(split="test", anomalous=True)) == ["3"]
    assert names(t.select(category="b")) == ["4"]
    assert names(t.select()) == ["1", "2", "3", "4"]
    with pytest.raises(ValueError, match="no category 'c' in root; it has: a, b"):
        t.select(category="c")


def test_calibration_holds_out_the_asked_share_of_training_normals_only():
    t = table(
        *(sample(f"n{i}") for i in range(20)),
        sample("d", "train", "dent"),
        sample("t", "test"),
        sample("u", "test"),
    )
    held = hold_out_calibration(t, 0.25, seed=1)
    calibration = held.select(split="calibration")
    assert len(calibration) == 5
    assert all(name.startswith("n") for name in names(calibration))
    assert names(held) == names(t)  # the order stays
    assert names(held.select(split="test")) == ["t", "u"]
    assert hold_out_calibration(t, 0.25, seed=1) == held
    assert any(hold_out_calibration(t, 0.25, seed=seed) != held for seed in range(2, 6))
    assert hold_out_calibration(t, 0.0, seed=1) == t
    assert len(hold_out_calibration(t, 0.01, seed=1).select(split="calibration")) == 1  # of 20: not none


def test_calibration_keeps_groups_whole_and_leaves_one_to_train_on():
    t = table(*(sample(f"{g}{i}", group=g) for g in "xyz" for i in range(4)))
    for fraction, groups in [(0.1, 1), (0.5, 2), (0.99, 2)]:
        held = hold_out_calibration(t, fraction, seed=0)
        chosen = [s.group for s in held if s.split == "calibration"]
        assert len(set(chosen)) == groups
        assert len(chosen) == 4 * groups


def test_annotated_anomalies_come_from_training_where_there_are_any():
    t = table(sample("n"), *(sample(f"d{i}", "train", "dent") for i in range(5)), sample("t", "test", "dent"))
    taken = take_anomalies(t, 2, seed=0)
    learnt = names(taken.select(split="train", anomalous=True))
    assert len(learnt) == 2
    assert set(learnt) < {"d0", "d1", "d2", "d3", "d4"}
    assert names(taken.select(split="test")) == ["t"]
    assert names(take_anomalies(t, 0, seed=0).select(split="train")) == ["n"]
    assert len(taken.select(split="unused")) == 3


def test_otherwise_they_leave_the_test_split_with_their_group():
    shots = [sample(f"{g}{i}", "test", "dent", group=g) for g in "xyz" for i in range(2)]
    t = table(sample("n"), *shots, sample("t", "test"))
    taken = take_anomalies(t, 1, seed=0)
    (learnt,) = taken.select(split="train", anomalous=True)
    left = {s.group for s in taken if s.split == "test" and s.anomalous}
    assert left == set("xyz") - {learnt.group}
    assert [s.group for s in taken.select(split="unused")] == [learnt.group]  # the other shot of it
    assert names(taken) == names(t)
    assert "t" in names(taken.select(split="test"))


SIZES = {"a": 1, "b": 6, "c": 2, "d": 3, "e": 6}


def shots_of_parts() -> Table:
    shots = [sample(f"{g}{i}", "test", "dent", group=g) for g, size in SIZES.items() for i in range(size)]
    return table(sample("n"), *shots, sample("t", "test"))


def first_of(order: tuple[str, ...], count: int) -> set[str]:
    """The first shots of parts in an order."""
    return set([f"{group}{index}" for group in order for index in range(SIZES[group])][:count])


@pytest.mark.parametrize("count", range(1, 19))
def test_a_part_is_used_up_before_the_next_is_opened(count):
    possible = {}
    for order in permutations(SIZES):
        learnt = first_of(order, count)
        possible[frozenset(learnt)] = {
            name for name in first_of(order, 18) if name[0] in {n[0] for n in learnt}
        }
    for seed in range(20):
        taken = take_anomalies(shots_of_parts(), count, seed)
        learnt = frozenset(names(taken.select(split="train", anomalous=True)))
        gone = set(names(taken)) - set(names(taken.select(split="test"))) - {"n"}
        assert gone == possible[learnt]
        assert len(gone) < count + max(SIZES.values())


def test_anomalies_are_drawn_fairly_and_smaller_numbers_are_part_of_larger_ones():
    draws = [
        {
            count: set(names(take_anomalies(shots_of_parts(), count, s).select(split="train", anomalous=True)))
            for count in (4, 9)
        }
        for s in range(1000)
    ]
    assert all(drawn[4] < drawn[9] for drawn in draws)
    orders = list(permutations(SIZES))
    for count in (4, 9):
        expected = Counter(name for order in orders for name in first_of(order, count))
        found = Counter(name for drawn in draws for name in drawn[count])
        for name, number in expected.items():
            share = number / len(orders)
            spread = (share * (1 - share) / len(draws)) ** 0.5
            assert found[name] / len(draws) == pytest.approx(share, abs=4 * spread + 1e-9)


def test_only_annotated_anomalies_can_be_taken():
    unannotated = Sample(Path("u"), "test", "a", "dent")
    t = table(sample("n"), sample("d", "test", "dent"), unannotated)
    assert names(take_anomalies(t, 1, seed=0).select(split="train", anomalous=True)) == ["d"]
    with pytest.raises(
        ValueError, match="2 annotated anomalous images asked for, but root has 1 in its test split"
    ):
        take_anomalies(t, 2, seed=0)

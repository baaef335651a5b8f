"""Where the ranks of a job part in what they call together."""

from __future__ import annotations

from gradscope.analysis.comparison.collective_orders import CollectiveOrders
from gradscope.analysis.facts.ranks.collectives import Collective
from gradscope.analysis.report_model import Place


def calls(*texts: str, group: tuple[int, ...] = (), line: int = 1) -> list[Collective]:
    return [Collective(group, text, Place("train.py", line, line, "", ""), True) for text in texts]


def found(orders: CollectiveOrders) -> list[tuple[tuple[int, ...], int, dict[str, tuple[int, ...]]]]:
    return [(one.group, one.number, {value.text: value.ranks for value in one.values}) for one in orders.partings()]


def test_the_first_call_that_differs_is_told_with_who_called_what():
    orders = CollectiveOrders()
    orders.add(0, calls("a", "b", "c"), is_whole=True)
    orders.add(1, calls("a", "b", "c", line=7), is_whole=True)  # elsewhere, but the same
    orders.add(2, calls("a", "c"), is_whole=True)
    orders.add(3, calls("a"), is_whole=True)
    assert found(orders) == [((), 2, {"b": (0, 1), "c": (2,), "": (3,)})]


def test_a_recording_without_an_end_is_no_ground_to_say_that_nothing_was_called():
    orders = CollectiveOrders()
    orders.add(0, calls("a", "b"), is_whole=True)
    orders.add(1, calls("a"), is_whole=False)
    assert found(orders) == []
    orders.add(2, calls(), is_whole=True)
    assert found(orders) == [((), 1, {"a": (0, 1), "": (2,)})]


def test_groups_are_told_apart():
    orders = CollectiveOrders()
    orders.add(0, [*calls("a"), *calls("x", group=(0, 1))], is_whole=True)
    orders.add(1, [*calls("x", group=(0, 1)), *calls("a")], is_whole=True)
    orders.add(2, [*calls("y", group=(2, 3)), *calls("a")], is_whole=True)
    orders.add(3, [*calls("z", group=(2, 3)), *calls("a")], is_whole=True)
    assert found(orders) == [((2, 3), 1, {"y": (2,), "z": (3,)})]

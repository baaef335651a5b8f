"""Byte ranges, overlaps, letters, and which tensors share memory."""

from hypothesis import given
from hypothesis import strategies as st

from gradscope.analysis.facts.storage_groups import byte_range, letter, overlap
from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

shapes = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 6)), max_size=3)
ranges = st.tuples(st.integers(0, 20), st.integers(0, 20))


@given(shapes, st.integers(0, 10), st.sampled_from([1, 2, 4, 8]))
def test_a_byte_range_is_where_the_elements_are(dims: list[tuple[int, int]], offset: int, itemsize: int) -> None:
    elements = [offset]
    for size, stride in dims:
        elements = [at + step * stride for at in elements for step in range(size)]
    shape, strides = tuple(size for size, _ in dims), tuple(stride for _, stride in dims)
    assert byte_range(shape, strides, offset, itemsize) == (min(elements) * itemsize, (max(elements) + 1) * itemsize)


def test_an_empty_tensor_spans_nothing() -> None:
    assert byte_range((0, 3), (3, 1), 2, 4) == (8, 8)


@given(ranges, ranges)
def test_overlap_is_symmetric_and_exact(one: tuple[int, int], other: tuple[int, int]) -> None:
    expected = bool(set(range(*one)) & set(range(*other)))
    assert overlap(one, other) is overlap(other, one) is expected


@given(st.integers(0, 20_000), st.integers(0, 20_000))
def test_letters_differ(one: int, other: int) -> None:
    assert (letter(one) == letter(other)) == (one == other)
    assert letter(one).isalpha()
    assert letter(one).isupper()


def test_letters_go_on_after_z() -> None:
    assert [letter(number) for number in (0, 25, 26, 27, 701, 702)] == ["A", "Z", "AA", "AB", "ZZ", "AAA"]


VIEWS = """
import torch
a = torch.zeros(8)
low = a[:4]
high = a[4:]
middle = a[2:6]
other = a.data
apart = torch.zeros(8)
"""


def test_members_their_bytes_and_counters() -> None:
    (group,) = build(recorded(VIEWS)).alias_groups
    members = {member.name: member for member in group.members}
    assert set(members) == {"a", "low", "high", "middle", "other"}
    assert (members["high"].first_byte, members["high"].end_byte, members["high"].offset) == (16, 32, 4)
    assert "high" not in members["low"].overlaps
    assert set(members["middle"].overlaps) == {"a", "low", "high", "other"}
    assert members["low"].base == "a"
    assert members["low"].version_group == members["a"].version_group != members["other"].version_group
    assert group.version_groups == 2
    assert group.nbytes == 32


def test_a_parameter_was_made_where_its_memory_was() -> None:
    source = """
    import torch, numpy
    model = torch.nn.Linear(2, 1, bias=False)
    kept = model.weight.detach()
    outside = torch.from_numpy(numpy.ones(2))
    part = outside[:1]
    """
    first, second = build(recorded(source)).alias_groups
    assert [(member.name, member.line) for member in first.members] == [("model.weight", 2), ("kept", 3)]
    assert "Linear" in first.members[0].op
    assert second.members[0].line == 4


def test_tensors_without_a_counter_are_in_no_group_of_one() -> None:
    source = """
    import torch
    with torch.inference_mode():
        a = torch.ones(4)
        b = a[:2]
    """
    (group,) = build(recorded(source)).alias_groups
    assert [member.version_group for member in group.members] == [0, 0]
    assert group.version_groups == 0

"""What the functions of an expectation say, against torch asked directly; none of them changes anything."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from gradscope.expressions.extra_names import NAMES, ExpectationNames, documented_names
from gradscope.expressions.raised_errors import RaisedErrors
from gradscope.recorder.torch_internals.capabilities import saved_tensors_tell_hooks

names = ExpectationNames(RaisedErrors())


@pytest.fixture(autouse=True)
def no_warning() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def leaf(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, requires_grad=True)


class TestSharing:
    def test_storage(self) -> None:
        a = torch.zeros(4, 4)
        for other in (a, a.detach(), a.data, a[1:], a.t(), a.view(-1), torch.nn.Parameter(a)):
            assert names.shares_storage(a, other)
        for other in (a.clone(), a[[0, 1]], torch.zeros(4, 4), a + 0):
            assert not names.shares_storage(a, other)

    def test_version(self) -> None:
        a = leaf(3)
        assert names.shares_version(a, a.detach())
        assert names.shares_version(a, a.view(3))
        assert not names.shares_version(a, a.data)
        assert not names.shares_version(a, a.clone())

    def test_asking_changes_no_version(self) -> None:
        a = torch.zeros(3)
        a.add_(1)
        b = a.detach()
        names.shares_version(a, b)
        names.shares_version(a, a.data)
        assert (a._version, b._version) == (1, 1)

    def test_what_has_no_version_counter(self) -> None:
        with torch.inference_mode():
            a = torch.zeros(3)
        with pytest.raises(TypeError, match="no version counter"):
            names.shares_version(a, a)


class TestReaches:
    def test_leaves_and_others(self) -> None:
        w, x, frozen = leaf(3), leaf(3), torch.ones(3)
        hidden = w * 2
        loss = (hidden + x.detach() + frozen).sum()
        assert names.reaches(loss, w)
        assert names.reaches(loss, hidden)
        assert names.reaches(hidden, hidden)
        assert not names.reaches(loss, x)
        assert not names.reaches(loss, frozen)
        assert not names.reaches(hidden, loss)
        assert not names.reaches(frozen, w)

    def test_after_backward(self) -> None:
        w = leaf(3)
        loss = w.exp().sum()
        loss.backward()
        assert names.reaches(loss, w)

    def test_the_outputs_of_one_node(self) -> None:
        first, second = torch.split(leaf(4) * 2, 2)
        loss = first.sum()
        assert names.reaches(loss, first) and names.reaches(first, first)
        assert not names.reaches(loss, second)
        assert not names.reaches(first, second)

    def test_a_deep_graph(self) -> None:
        w = leaf(1)
        y = w
        for _ in range(5000):
            y = y + 1
        assert names.reaches(y, w)

    def test_as_autograd_says(self) -> None:
        torch.manual_seed(0)
        tensors = [leaf(2) for _ in range(3)]
        for _ in range(12):
            a, b = (tensors[int(i)] for i in torch.randint(len(tensors), (2,)))
            tensors.append(torch.relu(a) * b if torch.rand(()) < 0.6 else (a + b).detach().requires_grad_())
        for loss in tensors[3:]:
            for w in tensors:
                grad = torch.autograd.grad(loss.sum(), w, retain_graph=True, allow_unused=True)[0]
                assert names.reaches(loss, w) == (grad is not None)


class TestSavedBytes:
    def test_each_block_once(self) -> None:
        x = leaf(100)
        y = x.exp()  # keeps y
        z = y * y  # keeps y, twice
        assert names.saved_bytes(y) == 400
        assert names.saved_bytes(z) == 400
        assert names.saved_bytes(x) == 0
        assert names.saved_bytes(x.detach()) == 0

    def test_the_whole_block_of_a_view(self) -> None:
        base = torch.ones(1000)
        assert names.saved_bytes(leaf(10) * base[:10]) == 4000

    def test_freed_by_backward(self) -> None:
        y = leaf(100).exp().sum()
        y.backward(retain_graph=True)
        assert names.saved_bytes(y) == 400
        y.backward()
        assert names.saved_bytes(y) == 0

    @pytest.mark.skipif(not saved_tensors_tell_hooks, reason="this torch gives no saved tensor that was written to")
    def test_also_after_a_write(self) -> None:
        y = leaf(100).exp()
        y.detach().zero_()
        assert names.saved_bytes(y) == 400

    def test_a_users_function(self) -> None:
        class Twice(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x.clone())
                ctx.other = x.clone()
                return x * 2

            @staticmethod
            def backward(ctx, grad):
                return grad * 2

        y = Twice.apply(leaf(100))
        assert names.saved_bytes(y) == 800

    @pytest.mark.skipif(not saved_tensors_tell_hooks, reason="this torch cannot say which saved tensors have hooks")
    def test_no_hook_is_run(self) -> None:
        ran = []
        x = leaf(100)

        def block(value: torch.Tensor) -> torch.Tensor:
            ran.append("forward")
            return value.exp().sin()

        y = checkpoint(block, x, use_reentrant=False)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: ran.append("unpack") or t):
            y = y.cos()
        assert names.saved_bytes(y) == 0
        assert ran == ["forward"]


def test_grad_fn_and_version() -> None:
    x = leaf(3)
    y = x * 2
    assert names.grad_fn(y) == type(y.grad_fn).__name__ == "MulBackward0"
    assert names.grad_fn(x) is names.grad_fn(y.detach()) is None
    y.add_(1)
    assert (names.version(y), names.version(x)) == (1, 0)


@pytest.mark.parametrize("name", ["version", "grad_fn", "saved_bytes"])
def test_only_tensors_are_taken(name: str) -> None:
    with pytest.raises(TypeError, match="a tensor is wanted, not float"):
        getattr(names, name)(1.0)


def test_every_name_is_documented() -> None:
    calls = [call for call, text in documented_names() if len(text) > 20]
    assert [call.partition("(")[0] for call in calls] == list(NAMES)
    assert "shares_storage(a, b)" in calls

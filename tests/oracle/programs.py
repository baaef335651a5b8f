"""Programs as people write them, put together at random from small pieces that fit each other.

All tensors are ``(2, 3)`` or broadcast with it, so any piece may follow any other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

HEAD = """\
import contextlib
import copy
import dataclasses
import threading
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
torch.manual_seed(0)
x = torch.randn(2, 3)"""

DEFINITIONS = {
    "Net": """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
        self.scale = nn.Parameter(torch.ones(3))
    def forward(self, h):
        h = torch.tanh(self.first(h))
        for layer in self.layers:
            h = layer(h)
        return h * self.scale""",
    "Halved": """\
class Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h):
        ctx.save_for_backward(h)
        return h * 0.5
    @staticmethod
    def backward(ctx, grad):
        return grad * 0.5""",
    "Reversed": """\
class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h):
        return h.view_as(h)
    @staticmethod
    def backward(ctx, grad):
        return -grad""",
    "Same": """\
class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h):
        return h
    @staticmethod
    def backward(ctx, grad):
        return grad * 2""",
    "OneSided": """\
class OneSided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, s):
        return h * s
    @staticmethod
    def backward(ctx, grad):
        return grad, None""",
    "scripted": """\
@torch.jit.script
def scripted(h):
    return torch.sigmoid(h) * h""",
    "Doubled": """\
class Doubled(nn.Module):
    def forward(self, weight):
        return weight * 2""",
    "Own": """\
class Own(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad, alpha=-group["lr"])
        return loss""",
    "OwnData": """\
class OwnData(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data.sub_(p.grad.data * group["lr"])
        return loss""",
    "block": """\
def block(module, h):
    h = checkpoint(module, h, use_reentrant=False)
    return h * 2""",
    "inner_block": """\
def inner_block(module, h):
    def run(value):
        value = module(value)
        return torch.tanh(value)
    return checkpoint(run, h, use_reentrant=True)""",
    "in_thread": """\
def in_thread(h):
    found = []
    def work():
        found.append(torch.tanh(h) * 2)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]""",
    "make_scale": """\
def make_scale(by):
    def scale(h):
        return h * by
    return scale""",
    "jitter": """\
def jitter(h):
    h += 0.1
    return h""",
    "features": """\
@torch.no_grad()
def features(h):
    return torch.sigmoid(h) * 2""",
    "Total": """\
class Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h):
        ctx.shape = h.shape
        return h.sum()
    @staticmethod
    def backward(ctx, grad):
        return grad.expand(ctx.shape)""",
    "Record": """\
@dataclasses.dataclass
class Record:
    value: torch.Tensor
    scale: float = 2.0""",
    "Holder": """\
class Holder:
    def __init__(self, value):
        self._value = value
    @property
    def value(self):
        return self._value * 2""",
    "Tracked": """\
class Tracked(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.register_buffer("mean", torch.zeros(3))
    def forward(self, h):
        out = self.fc(h)
        with torch.no_grad():
            self.mean.lerp_(out.mean(0), 0.1)
        return out - self.mean""",
    "Recurrent": """\
class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.drop = nn.LSTM(3, 3), nn.LSTM(3, 3), nn.Dropout(0.2)
    def forward(self, h):
        h, _ = self.one(self.drop(h))
        h, _ = self.two(self.drop(h))
        return h""",
    "Attending": """\
class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(3, 1, batch_first=True), nn.Linear(3, 3)
    def forward(self, h):
        q = h.unsqueeze(0) * 2
        h = h + self.attention(q, q, q, need_weights=False)[0].squeeze(0)
        return h + self.out(h)""",
    "Averaging": """\
class Averaging(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.register_buffer("mean", torch.zeros(3))
    def forward(self, h):
        out = self.fc(h)
        self.mean = 0.9 * self.mean + 0.1 * out.mean(0)
        return out - self.mean""",
    "batches": """\
def batches(h):
    for number in range(2):
        part = h[number] * 2
        yield part""",
    "quiet": """\
def quiet(h):
    with torch.no_grad():
        value = torch.tanh(h)
        yield value""",
    "calm": """\
@torch.no_grad()
def calm(h):
    value = torch.sigmoid(h)
    yield value
    value = value * 2
    yield value""",
    "held_still": """\
@contextlib.contextmanager
def held_still(module):
    for p in module.parameters():
        p.requires_grad_(False)
    yield
    for p in module.parameters():
        p.requires_grad_(True)""",
    "nested": """\
def nested(h):
    scale = h.detach()
    def inner(value):
        nonlocal scale
        scale = scale * 2
        return value * scale
    h = inner(h)
    return inner(h)""",
}


class Program(NamedTuple):
    """A program, and whether it does only what it means to."""

    source: str
    healthy: bool = False


@dataclass
class Writer:
    """Writes one program line by line, and knows what its names hold so far."""

    random: Random
    lines: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    """Expressions of modules that take and give ``(2, 3)``."""
    linears: list[str] = field(default_factory=list)
    """Those of one ``nn.Linear(3, 3)`` each."""
    names: list[str] = field(default_factory=list)
    """Names of modules that have parameters of their own."""
    leaves: list[str] = field(default_factory=list)
    indent: int = 0
    numbers: int = 0

    def add(self, *lines: str) -> None:
        """Write lines at the present depth."""
        self.lines += [" " * self.indent + line for line in lines]

    @contextlib.contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write a compound statement around what is written inside."""
        self.add(head)
        self.indent += 4
        yield
        self.indent -= 4

    def fresh(self, beginning: str) -> str:
        """A name that is not taken."""
        self.numbers += 1
        return f"{beginning}{self.numbers}"

    def define(self, name: str) -> str:
        """Make sure that a class or function is defined."""
        if name not in self.definitions:
            self.definitions.append(name)
        return name

    def piece(self, pieces: dict[str, Piece]) -> None:
        """Write one of some pieces."""
        pieces[self.random.choice(list(pieces))](self)

    def maybe(self, pieces: dict[str, Piece], at_most: int) -> None:
        """Write up to so many of some pieces."""
        for _ in range(self.random.randint(0, at_most)):
            self.piece(pieces)

    def loop(self, stack: contextlib.ExitStack, runs: tuple[int, ...]) -> None:
        """Open a loop around what is written while a stack is open."""
        stack.enter_context(self.block(f"for step in range({self.random.choice(runs)}):"))

    def program(self, healthy: bool = False) -> Program:
        """What was written."""
        parts = [HEAD, *(DEFINITIONS[name] for name in self.definitions), *self.lines]
        return Program("\n".join(parts) + "\n", healthy)


Piece = Callable[[Writer], None]


# ---- modules and leaves


def _linear(to: Writer) -> None:
    name = to.fresh("fc")
    to.add(f"{name} = nn.Linear(3, 3)")
    to.linears.append(name)
    to.modules.append(name)
    to.names.append(name)


def _two_on_a_line(to: Writer) -> None:
    first, second = to.fresh("actor"), to.fresh("critic")
    to.add(f"{first}, {second} = nn.Linear(3, 3), nn.Linear(3, 3)")
    to.linears += [first, second]
    to.modules += [first, second]
    to.names += [first, second]


def _listed(to: Writer) -> None:
    name, count = to.fresh("blocks"), to.random.randint(2, 3)
    to.add(f"{name} = [nn.Linear(3, 3) for _ in range({count})]")
    members = [f"{name}[{number}]" for number in range(count)]
    to.linears += members
    to.modules += members
    to.names += members


def _built_in_a_loop(to: Writer) -> None:
    name = to.fresh("stack")
    to.add(f"{name} = []")
    with to.block("for number in range(3):"):
        to.add(f"{name}.append(nn.Linear(3, 3))")
    members = [f"{name}[{number}]" for number in range(3)]
    to.linears += members
    to.modules += members
    to.names += members


def _module_list(to: Writer) -> None:
    name = to.fresh("parts")
    to.add(f"{name} = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])")
    members = [f"{name}[{number}]" for number in range(3)]
    to.linears += members
    to.modules += members
    to.names.append(name)


def _sequential(to: Writer) -> None:
    name = to.fresh("net")
    between = to.random.choice(["nn.Tanh()", "nn.ReLU()", "nn.LayerNorm(3)", "nn.Dropout(0.5)"])
    to.add(f"{name} = nn.Sequential(nn.Linear(3, 3), {between}, nn.Linear(3, 3))")
    to.modules.append(name)
    to.names.append(name)


def _class(to: Writer) -> None:
    name = to.fresh("model")
    to.add(f"{name} = {to.define('Net')}()")
    to.modules.append(name)
    to.names.append(name)


def _batch_norm(to: Writer) -> None:
    name = to.fresh("norm")
    to.add(f"{name} = nn.BatchNorm1d(3)")
    to.modules.append(name)
    to.names.append(name)


def _of_class(name: str) -> Piece:
    def piece(to: Writer) -> None:
        model = to.fresh("model")
        to.add(f"{model} = {to.define(name)}()")
        to.modules.append(model)
        to.names.append(model)

    return piece


MODULES: dict[str, Piece] = {
    "linear": _linear,
    "two-on-a-line": _two_on_a_line,
    "modules-in-a-list": _listed,
    "modules-in-a-loop": _built_in_a_loop,
    "module-list": _module_list,
    "sequential": _sequential,
    "module-class": _class,
    "batch-norm": _batch_norm,
    "buffer-averaged": _of_class("Tracked"),
    "recurrent": _of_class("Recurrent"),
    "attending": _of_class("Attending"),
    "buffer-averaged-with-graph": _of_class("Averaging"),
}

SAFE_MODULES = {name: module for name, module in MODULES.items() if name != "buffer-averaged-with-graph"}
"""Without the one whose graph goes on from round to round."""


def _leaf(to: Writer) -> None:
    name = to.fresh("w")
    how = to.random.choice(["torch.randn(3, requires_grad=True)", "nn.Parameter(torch.randn(3))"])
    to.add(f"{name} = {how}")
    to.leaves.append(name)


def _leaf_set_later(to: Writer) -> None:
    name = to.fresh("w")
    to.add(f"{name} = torch.randn(3)", f"{name}.requires_grad_()")
    to.leaves.append(name)


def _leaves_in_a_list(to: Writer) -> None:
    name = to.fresh("ws")
    to.add(f"{name} = [torch.randn(3, requires_grad=True) for _ in range(2)]")
    to.leaves += [f"{name}[0]", f"{name}[1]"]


def _leaf_from_values(to: Writer) -> None:
    name = to.fresh("w")
    to.add(f"{name} = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)")
    to.leaves.append(name)


LEAVES: dict[str, Piece] = {
    "leaf": _leaf,
    "leaf-set-later": _leaf_set_later,
    "leaves-in-a-list": _leaves_in_a_list,
    "leaf-from-values": _leaf_from_values,
}


# ---- what is done to modules and leaves before they are used


def _pair(to: Writer) -> tuple[str, str]:
    if len(to.linears) < 2:
        _linear(to)
        _linear(to)
    first, second = to.random.sample(to.linears, 2)
    return first, second


def _tied(to: Writer) -> None:
    first, second = _pair(to)
    to.add(f"{first}.weight = {second}.weight")


def _copied(to: Writer) -> None:
    source, name = to.random.choice(to.linears or to.modules), to.fresh("twin")
    to.add(f"{name} = copy.deepcopy({source})")
    to.modules.append(name)
    to.names.append(name)
    if source in to.linears:
        to.linears.append(name)


def _loaded(to: Writer) -> None:
    first, second = _pair(to)
    to.add(f"{first}.load_state_dict({second}.state_dict())")


def _written(to: Writer) -> None:
    first, second = _pair(to)
    with to.block("with torch.no_grad():"):
        write = to.random.choice(["copy_({})", "lerp_({}, 0.1)", "mul_(0.5).add_({})"])
        to.add(f"{first}.weight.{write.format(f'{second}.weight')}")


def _data_written(to: Writer) -> None:
    first, second = _pair(to)
    to.add(f"{first}.weight.data.copy_({second}.weight.data)")


def _averaged(to: Writer) -> None:
    first, second = _pair(to)
    with to.block("with torch.no_grad():"), to.block(f"for p, q in zip({first}.parameters(), {second}.parameters()):"):
        to.add("p.mul_(0.9).add_(q, alpha=0.1)")


def _initialised(to: Writer) -> None:
    first, _ = _pair(to)
    to.add(to.random.choice([f"nn.init.xavier_uniform_({first}.weight)", f"nn.init.zeros_({first}.bias)"]))


def _frozen(to: Writer) -> None:
    module = to.random.choice(to.modules)
    if to.random.random() < 0.5:
        to.add(f"{module}.requires_grad_(False)")
    else:
        with to.block(f"for p in {module}.parameters():"):
            to.add("p.requires_grad = False")


def _replaced(to: Writer) -> None:
    first, _ = _pair(to)
    to.add(f"{first}.weight = nn.Parameter(torch.randn(3, 3))")


def _swapped_modules(to: Writer) -> None:
    plain = [name for name in to.linears if "[" not in name]
    if len(plain) > 1:
        first, second = to.random.sample(plain, 2)
        to.add(f"{first}, {second} = {second}, {first}")


def _swapped_leaves(to: Writer) -> None:
    plain = [name for name in to.leaves if "[" not in name]
    if len(plain) > 1:
        first, second = to.random.sample(plain, 2)
        to.add(f"{first}, {second} = {second}, {first}")


def _rebound_leaf(to: Writer) -> None:
    plain = [name for name in to.leaves if "[" not in name]
    if plain:
        name = to.random.choice(plain)
        old = to.fresh("old")
        to.add(f"{old} = {name}", f"{name} = torch.randn(3, requires_grad=True)")
        to.leaves.append(old)


def _viewed_leaf(to: Writer) -> None:
    if to.leaves:
        leaf, name = to.random.choice(to.leaves), to.fresh("part")
        to.add(f"{name} = {leaf}.detach()[1:]", f"{name}.zero_()")


def _tensor_hook(to: Writer) -> None:
    if to.leaves:
        to.add(f"{to.random.choice(to.leaves)}.register_hook(lambda grad: grad * 2)")


def _forward_hook(to: Writer) -> None:
    to.add(f"{to.random.choice(to.modules)}.register_forward_hook(lambda module, taken, given: None)")


def _full_backward_hook(to: Writer) -> None:
    to.add(f"{to.random.choice(to.modules)}.register_full_backward_hook(lambda module, inner, outer: None)")


def _parametrized(to: Writer) -> None:
    plain = [name for name in to.linears if "[" not in name]
    if plain:
        name = to.random.choice(plain)
        to.linears.remove(name)
        own = _PARAMETRIZE + to.define("Doubled") + "())"
        how = to.random.choice(["nn.utils.parametrizations.weight_norm({})", own])
        to.add(how.format(name))


_PARAMETRIZE = "nn.utils.parametrize.register_parametrization({}, 'weight', "


def _zeroing_hook(to: Writer) -> None:
    if to.leaves:
        to.add(f"{to.random.choice(to.leaves)}.register_hook(lambda grad: grad * 0)")


def _accumulated_hook(to: Writer) -> None:
    if to.leaves:
        to.add(f"{to.random.choice(to.leaves)}.register_post_accumulate_grad_hook(lambda p: p.grad.mul_(0.5))")


def _leaf_written_by_numpy(to: Writer) -> None:
    if to.leaves:
        name = to.fresh("array")
        to.add(f"{name} = {to.random.choice(to.leaves)}.detach().numpy()", f"{name}[0] = 0.25")


def _output_replaced(to: Writer) -> None:
    given = to.random.choice(["given * 2", "given.detach()", "torch.zeros_like(given)", "given + taken[0]"])
    to.add(f"{to.random.choice(to.modules)}.register_forward_hook(lambda module, taken, given: {given})")


def _input_replaced(to: Writer) -> None:
    taken = to.random.choice(["taken[0] * 2", "taken[0].detach()"])
    to.add(f"{to.random.choice(to.modules)}.register_forward_pre_hook(lambda module, taken: ({taken},))")


PREPARATIONS: dict[str, Piece] = {
    "tied": _tied,
    "deepcopy": _copied,
    "load-state-dict": _loaded,
    "written-under-no-grad": _written,
    "data-written": _data_written,
    "averaged": _averaged,
    "initialised": _initialised,
    "frozen": _frozen,
    "replaced-parameter": _replaced,
    "swapped-modules": _swapped_modules,
    "swapped-leaves": _swapped_leaves,
    "rebound-leaf": _rebound_leaf,
    "written-view-of-leaf": _viewed_leaf,
    "tensor-hook": _tensor_hook,
    "forward-hook": _forward_hook,
    "full-backward-hook": _full_backward_hook,
    "parametrized": _parametrized,
    "zeroing-hook": _zeroing_hook,
    "accumulated-hook": _accumulated_hook,
    "leaf-written-by-numpy": _leaf_written_by_numpy,
    "output-replaced": _output_replaced,
    "input-replaced": _input_replaced,
}


# ---- steps of a forward pass: each makes a new h of h


def _through_module(to: Writer) -> None:
    to.add(f"h = {to.random.choice(to.modules)}(h)")


def _residual(to: Writer) -> None:
    to.add(f"h = h + {to.random.choice(to.modules)}(h)")


def _times_leaf(to: Writer) -> None:
    to.add(f"h = h * {to.random.choice(to.leaves)}" if to.leaves else "h = h * 2")


def _plain(text: str) -> Piece:
    return lambda to: to.add(text)


def _module_under_no_grad(to: Writer) -> None:
    with to.block("with torch.no_grad():"):
        to.add(f"h = {to.random.choice(to.modules)}(h)")


def _side_under_no_grad(to: Writer) -> None:
    name = to.fresh("side")
    with to.block("with torch.no_grad():"):
        to.add(f"{name} = {to.random.choice(to.modules)}(h)")
    to.add(f"h = h + {name}")


def _under_inference_mode(to: Writer) -> None:
    name = to.fresh("score")
    with to.block("with torch.inference_mode():"):
        to.add(f"{name} = {to.random.choice(to.modules)}(h)")
    to.add(f"h = h + {name}.clone()")


def _grad_mode_set(to: Writer) -> None:
    to.add("torch.set_grad_enabled(False)", f"h = {to.random.choice(to.modules)}(h)", "torch.set_grad_enabled(True)")


def _leaf_data(to: Writer) -> None:
    to.add(f"h = h * {to.random.choice(to.leaves)}.data" if to.leaves else "h = h * x.data")


def _written_in_place(to: Writer) -> None:
    to.add("h = h.clone()", to.random.choice(["h.mul_(2)", "h[0] = 0.5", "h[:, 1].add_(1)", "h.clamp_(min=-1)"]))


def _written_view(to: Writer) -> None:
    name = to.fresh("row")
    to.add("h = h * 1", f"{name} = h[0]", f"{name}.mul_(3)")


def _checkpointed(reentrant: bool) -> Piece:
    return lambda to: to.add(f"h = checkpoint({to.random.choice(to.modules)}, h, use_reentrant={reentrant})")


def _function(name: str) -> Piece:
    return lambda to: to.add(f"h = {to.define(name)}.apply(h)")


def _one_sided(to: Writer) -> None:
    leaf = to.random.choice(to.leaves) if to.leaves else "x"
    to.add(f"h = {to.define('OneSided')}.apply(h, {leaf})")


def _called(name: str) -> Piece:
    return lambda to: to.add(f"h = {to.define(name)}(h)")


def _chosen(to: Writer) -> None:
    name = to.fresh("best")
    to.add(f"{name} = h.argmax(dim=1)", f"h = h * {name}.unsqueeze(1)")


def _unused_side(to: Writer) -> None:
    to.add(f"{to.fresh('extra')} = {to.random.choice(to.modules)}(h)")


def _retained(to: Writer) -> None:
    name = to.fresh("kept")
    with to.block("if h.requires_grad:"):
        to.add(f"{name} = h", f"{name}.retain_grad()")


def _parameter_of_a_result(to: Writer) -> None:
    name = to.fresh("made")
    to.add(f"{name} = nn.Parameter(h * 2)", f"h = {name} * 1")


def _tensor_of_a_leaf(to: Writer) -> None:
    name = to.fresh("v")
    to.add(f"{name} = torch.tensor({to.random.choice(to.leaves or ['x'])}, requires_grad=True)", f"h = h * {name}")


def _buffer_written(to: Writer) -> None:
    name = to.fresh("buffer")
    to.add(f"{name} = torch.zeros(2, 3)", f"{name}.data.copy_(h * 2)", f"h = {name} * 1")


def _written_by_numpy(to: Writer) -> None:
    name = to.fresh("array")
    to.add("h = h * 1", f"{name} = h.detach().numpy()", f"{name} += 1")


def _hidden_hook(to: Writer) -> None:
    change = to.random.choice(["grad * 0.5", "torch.zeros_like(grad)", "None"])
    with to.block("if h.requires_grad:"):
        to.add(f"h.register_hook(lambda grad: {change})")


def _through(function: str) -> Piece:
    return lambda to: to.add(f"h = {to.define(function)}({to.random.choice(to.modules)}, h)")


def _functional_call(to: Writer) -> None:
    if not to.linears:
        _linear(to)
    module = to.random.choice(to.linears)
    value = to.random.choice(["v", "v.detach()", "v * 2"])
    given = f"{{k: {value} for k, v in {module}.named_parameters()}}"
    to.add(f"h = torch.func.functional_call({module}, {given}, (h,))")


def _made_anew(to: Writer) -> None:
    name = to.fresh("fresh")
    given = f"{{k: v.detach().requires_grad_() for k, v in {name}.named_parameters()}}"
    to.add(f"{name} = nn.Linear(3, 3)", f"fast = {given}", f"h = torch.func.functional_call({name}, fast, (h,))")


def _evaluated(to: Writer) -> None:
    module = to.random.choice(to.modules)
    to.add(f"{module}.eval()")
    with to.block("with torch.no_grad():"):
        to.add(f"print({module}(h).sum().item())")
    to.add(f"{module}.train()")


def _func_grad(to: Writer) -> None:
    name = to.fresh("slopes")
    to.add(f"{name} = torch.func.grad(lambda v: (v * 2).sin().sum())(h.detach())", f"h = h + {name}")


def _by_closure(to: Writer) -> None:
    name = to.fresh("scale")
    to.add(f"{name} = {to.define('make_scale')}({to.random.choice(to.leaves or ['x'])})", f"h = {name}(h)")


def _copied_tensor(to: Writer) -> None:
    name = to.fresh("kept")
    to.add(f"{name} = copy.deepcopy({to.random.choice(to.leaves or ['x'])})", f"h = h * {name}")


def _autocast(to: Writer) -> None:
    with to.block("with torch.autocast('cpu'):"):
        to.add(f"h = {to.random.choice(to.modules)}(h)")
    to.add("h = h.float()")


def _jittered(to: Writer) -> None:
    name = to.fresh("noisy")
    to.add("h = h * 1", f"{name} = {to.define('jitter')}(h)", f"h = h * {name}")


def _activated_in_place(to: Writer) -> None:
    how = ["nn.ReLU(inplace=True)(h)", "nn.functional.leaky_relu(h, 0.1, inplace=True)", "nn.functional.relu_(h)"]
    to.add("h = h * 1", f"h = {to.random.choice(how)}")


def _in_record(to: Writer) -> None:
    name, module = to.fresh("record"), to.random.choice(to.modules)
    to.add(f"{name} = {to.define('Record')}(h)", f"{name}.value = {module}({name}.value)")
    to.add(f"h = {name}.value * {name}.scale")


def _in_dict(to: Writer) -> None:
    name, module = to.fresh("state"), to.random.choice(to.modules)
    to.add(f"{name} = {{'h': h}}", f"{name}['h'] = {module}({name}['h'])", f"{name}['old'] = h", f"h = {name}['h']")


def _of_property(to: Writer) -> None:
    name = to.fresh("holder")
    to.add(f"{name} = {to.define('Holder')}(h)", f"h = h + {name}.value")


def _generated(name: str) -> Piece:
    def piece(to: Writer) -> None:
        with to.block(f"for value in {to.define(name)}(h):"):
            to.add("h = h + value")

    return piece


def _held_still(to: Writer) -> None:
    module = to.random.choice(to.modules)
    with to.block(f"with {to.define('held_still')}({module}):"):
        to.add(f"h = h + {module}(h)")


def _swapped_names(to: Writer) -> None:
    name = to.fresh("other")
    to.add(f"{name} = {to.random.choice(to.modules)}(h)", f"h, {name} = {name}, h", f"h = h + {name}")


def _func_vjp(to: Writer) -> None:
    name = to.fresh("pulled")
    value = to.random.choice(["h", "h.detach()"])
    to.add(f"{name}, pull = torch.func.vjp(torch.tanh, {value})", f"h = h + pull(torch.ones(2, 3))[0] * {name}")


def _func_grad_each(to: Writer) -> None:
    name = to.fresh("slopes")
    to.add(f"{name} = torch.func.vmap(torch.func.grad(lambda row: row.sin().sum()))(h)", f"h = h * {name}")


def _caught_step(to: Writer) -> None:
    with to.block("try:"):
        to.add("h = h @ torch.ones(5, 5)")
    with to.block("except RuntimeError:"):
        to.add(f"h = {to.random.choice(to.modules)}(h)")


def _closure_variable(to: Writer) -> None:
    name = to.fresh("shift")
    to.add(f"{name} = {to.random.choice(to.leaves or ['x'])}", f"later = lambda value: value * {name}")
    to.add(f"{name} = torch.ones(3)", "h = later(h)")


STEPS: dict[str, Piece] = {
    "module": _through_module,
    "residual": _residual,
    "times-leaf": _times_leaf,
    "tanh": _plain("h = torch.tanh(h)"),
    "views": _plain("h = h.view(-1).view(2, 3)"),
    "transposed": _plain("h = h.t().contiguous().t()"),
    "detached": _plain("h = h.detach()"),
    "detached-side": _plain("h = h + h.detach()"),
    "data-of-hidden": _plain("h = h.data + 0"),
    "data-of-leaf": _leaf_data,
    "module-under-no-grad": _module_under_no_grad,
    "side-under-no-grad": _side_under_no_grad,
    "inference-mode": _under_inference_mode,
    "set-grad-enabled": _grad_mode_set,
    "written-in-place": _written_in_place,
    "written-view": _written_view,
    "numpy": _plain("h = torch.from_numpy(h.detach().numpy())"),
    "list-of-values": _plain("h = torch.tensor(h.tolist())"),
    "tensor-of-tensor": _plain("h = torch.tensor(h)"),
    "item": _plain("h = h * h.sum().item()"),
    "rounded": _plain("h = h * h.long()"),
    "compared": _plain("h = h * (h > 0)"),
    "argmax": _chosen,
    "checkpoint": _checkpointed(False),
    "reentrant-checkpoint": _checkpointed(True),
    "function": _function("Halved"),
    "function-that-gives-a-view": _function("Reversed"),
    "function-that-gives-its-input": _function("Same"),
    "function-that-gives-none": _one_sided,
    "scripted": _called("scripted"),
    "decorated-no-grad": _called("features"),
    "unused-side": _unused_side,
    "retained": _retained,
    "parameter-of-a-result": _parameter_of_a_result,
    "tensor-of-a-leaf": _tensor_of_a_leaf,
    "buffer-written": _buffer_written,
    "written-by-numpy": _written_by_numpy,
    "hidden-hook": _hidden_hook,
    "checkpoint-in-function": _through("block"),
    "checkpoint-of-function": _through("inner_block"),
    "functional-call": _functional_call,
    "func-grad": _func_grad,
    "made-anew": _made_anew,
    "evaluated": _evaluated,
    "vmap": _plain("h = torch.func.vmap(lambda row: row.sin())(h)"),
    "thread": _called("in_thread"),
    "by-closure": _by_closure,
    "copied-tensor": _copied_tensor,
    "autocast": _autocast,
    "argument-written": _jittered,
    "activated-in-place": _activated_in_place,
    "in-record": _in_record,
    "in-dict": _in_dict,
    "of-property": _of_property,
    "generated": _generated("batches"),
    "generated-under-no-grad": _generated("quiet"),
    "generated-by-decorated": _generated("calm"),
    "held-still": _held_still,
    "names-swapped": _swapped_names,
    "nested": _called("nested"),
    "func-vjp": _func_vjp,
    "func-grad-each": _func_grad_each,
    "caught-step": _caught_step,
    "closure-variable": _closure_variable,
}

SAFE_STEPS: dict[str, Piece] = {
    name: STEPS[name]
    for name in ("module", "residual", "tanh", "views", "written-in-place", "checkpoint", "function", "scripted",
                 "detached-side", "side-under-no-grad", "compared", "function-that-gives-a-view",
                 "checkpoint-in-function", "vmap", "thread", "by-closure", "func-grad", "evaluated")
}  # fmt: skip
"""Steps through which every gradient goes."""
SAFE_STEPS_OF_A_NORM = {name: step for name, step in SAFE_STEPS.items() if "checkpoint" not in name}
"""Without those that run a module twice a batch, which updates its statistics twice."""


# ---- backward passes


def _loss(to: Writer) -> str:
    return to.random.choice(["h.sum()", "h.pow(2).mean()", "nn.functional.mse_loss(h, torch.zeros(2, 3))"])


def _tracked(to: Writer) -> None:
    """A way to the loss that requires grad in any case, so that most programs get to their end."""
    to.add(f"h = h + {to.random.choice(to.modules)}(x)")


def _backward(to: Writer) -> None:
    to.add(f"loss = {_loss(to)}", "loss.backward()")


def _backward_on_a_line(to: Writer) -> None:
    to.add("h.sum().backward()")


def _two_losses(to: Writer) -> None:
    to.add(f"loss1 = {_loss(to)}", f"loss2 = {to.random.choice(to.modules)}(h).sum()")
    to.add("loss1.backward(retain_graph=True)", "loss2.backward()")


def _each_in_turn(to: Writer) -> None:
    to.add(f"nets = [{', '.join(to.random.sample(to.modules, min(2, len(to.modules))))}]")
    with to.block("for net in nets:"):
        to.add("net(x).sum().backward()")


def _penalty(to: Writer) -> None:
    leaf = to.fresh("point")
    to.add(f"{leaf} = x.clone().requires_grad_()", f"out = {to.random.choice(to.modules)}({leaf}).tanh().sum()")
    to.add(f"(slope,) = torch.autograd.grad(out, {leaf}, create_graph=True)", "loss = h.sum() + slope.pow(2).sum()")
    to.add("loss.backward()")


def _penalty_without_graph(to: Writer) -> None:
    leaf = to.fresh("point")
    to.add(f"{leaf} = x.clone().requires_grad_()", f"out = {to.random.choice(to.modules)}({leaf}).tanh().sum()")
    to.add(f"(slope,) = torch.autograd.grad(out, {leaf})", "loss = h.sum() + slope.pow(2).sum()", "loss.backward()")


def _some_inputs(to: Writer) -> None:
    _tracked(to)
    to.add(f"loss = {_loss(to)}", f"loss.backward(inputs=list({to.random.choice(to.modules)}.parameters()))")


def _scaled(to: Writer) -> None:
    name = to.fresh("scaler")
    to.add(f"{name} = torch.amp.GradScaler('cpu')", f"loss = {_loss(to)}", f"{name}.scale(loss).backward()")


def _retained_graph(to: Writer) -> None:
    to.add(f"loss = {_loss(to)}", "loss.backward(retain_graph=True)")


def _paired(to: Writer) -> None:
    to.add(
        "values, goals = h.sum(1, keepdim=True), x[:, 0]", "loss = (values - goals).pow(2).mean()", "loss.backward()"
    )


def _caught_second_pass(to: Writer) -> None:
    to.add(f"loss = {_loss(to)}", "loss.backward()")
    with to.block("try:"):
        to.add("loss.backward()")
    with to.block("except RuntimeError as error:"):
        to.add("print(type(error))")


def _caught_in_place(to: Writer) -> None:
    _tracked(to)
    to.add("out = h.exp()", "loss = out.sum()", "out.detach().mul_(2)")
    with to.block("try:"):
        to.add("loss.backward()")
    with to.block("except RuntimeError:"):
        to.add("h.sum().backward()")


def _by_lbfgs(to: Writer) -> None:
    name, module = to.fresh("lbfgs"), to.random.choice(to.modules)
    to.add(f"{name} = torch.optim.LBFGS(list({module}.parameters()), lr=0.1, max_iter=2)")
    with to.block("def closure():"):
        to.add(f"{name}.zero_grad()", f"loss = {module}(x).pow(2).sum()", "loss.backward()", "return loss")
    to.add(f"{name}.step(closure)")


def _loaded_batches(to: Writer) -> None:
    module = to.random.choice(to.modules)
    if to.random.random() < 0.5:
        with to.block("for batch in torch.utils.data.DataLoader(x, batch_size=2):"):
            to.add(f"{module}(batch).sum().backward()")
    else:
        with to.block("for a, b in torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, h.detach()), 2):"):
            to.add(f"loss = nn.functional.mse_loss({module}(a), b)", "loss.backward()")


def _scaled_step(to: Writer) -> None:
    name, opt, module = to.fresh("scaler"), to.fresh("opt"), to.random.choice(to.modules)
    to.add(f"{name} = torch.amp.GradScaler('cpu', init_scale=8.0)")
    to.add(f"{opt} = torch.optim.SGD(list({module}.parameters()), lr=0.1)", f"loss = {module}(x).sum()")
    to.add(f"{name}.scale(loss).backward()", f"{name}.unscale_({opt})", f"{name}.step({opt})", f"{name}.update()")


def _function_alone(to: Writer) -> None:
    _tracked(to)
    to.add(f"{to.define('Total')}.apply(h).backward()")


def _in_thread(to: Writer) -> None:
    to.add("loss = h.sum()")
    with to.block("def work():"):
        to.add("loss.backward()")
    to.add("thread = threading.Thread(target=work)", "thread.start()", "thread.join()")


PASSES: dict[str, Piece] = {
    "backward": _backward,
    "backward-on-a-line": _backward_on_a_line,
    "two-losses": _two_losses,
    "each-in-turn": _each_in_turn,
    "penalty": _penalty,
    "penalty-without-graph": _penalty_without_graph,
    "some-inputs": _some_inputs,
    "scaled": _scaled,
    "retained-graph": _retained_graph,
    "paired": _paired,
    "caught-second-pass": _caught_second_pass,
    "caught-in-place": _caught_in_place,
    "lbfgs": _by_lbfgs,
    "loaded-batches": _loaded_batches,
    "scaled-step": _scaled_step,
    "function-alone": _function_alone,
    "in-thread": _in_thread,
}

OPTIMIZERS = {
    "sgd": "torch.optim.SGD({}, lr=0.1)",
    "momentum": "torch.optim.SGD({}, lr=0.1, momentum=0.9, foreach=True)",
    "adam": "torch.optim.Adam({}, lr=0.01)",
    "adamw-foreach": "torch.optim.AdamW({}, lr=0.01, foreach=True)",
    "adam-single": "torch.optim.Adam({}, lr=0.01, foreach=False)",
    "rmsprop": "torch.optim.RMSprop({}, lr=0.01)",
    "adamw-fused": "torch.optim.AdamW({}, lr=0.01, fused=True)",
    "sgd-fused": "torch.optim.SGD({}, lr=0.01, fused=True)",
    "own": "Own({}, lr=0.1)",
    "own-data": "OwnData({}, lr=0.1)",
}


def _reads(to: Writer) -> None:
    for _ in range(to.random.randint(0, 3)):
        leaves = [*to.leaves, *(f"{name}.weight" for name in to.linears)]
        if leaves:
            to.add(f"print({to.random.choice(leaves)}.grad)")


def _forward(to: Writer, pieces: dict[str, Piece], at_most: int) -> None:
    to.add("h = x")
    to.maybe(pieces, at_most)


def _kind_of_optimizer(to: Writer) -> str:
    kind = to.random.choice(list(OPTIMIZERS))
    if (own := OPTIMIZERS[kind].partition("(")[0]) in DEFINITIONS:
        to.define(own)
    return OPTIMIZERS[kind]


def _optimizer(to: Writer) -> str | None:
    kind = _kind_of_optimizer(to)
    chosen = to.names if to.random.random() < 0.7 else to.random.sample(to.names, max(1, len(to.names) - 1))
    name = to.fresh("opt")
    to.add(f"{name} = {kind.format(_all_parameters(chosen))}")
    return name


def _all_parameters(names: list[str]) -> str:
    return f"list({{p: None for m in [{', '.join(names)}] for p in m.parameters()}})"


class Trap(NamedTuple):
    """What goes wrong around a training: lines before its loop, in its forward and after its step."""

    before: tuple[str, ...] = ()
    forward: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def written(self, to: Writer) -> Trap:
        """With the program's own names in it."""
        if not to.linears:
            _linear(to)
        linear = to.random.choice(to.linears)
        names = {
            "leaf": to.random.choice(to.leaves or [f"{linear}.weight"]),
            "linear": linear,
            "module": to.random.choice(to.modules),
        }
        return Trap(*(tuple(line.format_map(names) for line in lines) for lines in self))


TRAPS: dict[str, Trap] = {
    "gradient-kept": Trap(
        before=("previous = None",),
        after=(
            "if previous is not None and {leaf}.grad is not None:",
            "    print(({leaf}.grad - previous).norm().item())",
            "previous = {leaf}.grad",
        ),
    ),
    "snapshot": Trap(before=("earlier = {leaf}.detach()",), after=("print(({leaf} - earlier).norm().item())",)),
    "evaluation": Trap(
        after=("{module}.eval()", "results = [{module}(x) for _ in range(3)]", "{module}.train()"),
    ),
    "replaced": Trap(
        before=("extra = torch.ones(3, requires_grad=True)", "own = torch.optim.SGD([extra], lr=0.1)"),
        forward=("h = h * extra",),
        after=("own.step()", "extra = extra.clamp(0, 1).detach().requires_grad_()"),
    ),
    "results-kept": Trap(before=("outputs = []",), after=("outputs.append(h)",)),
    "lost-update": Trap(
        after=(
            "with torch.no_grad():",
            "    for p in {module}.parameters():",
            "        if p.grad is not None:",
            "            p = p - 0.1 * p.grad",
        ),
    ),
    "overwritten": Trap(
        before=("start = copy.deepcopy({linear}.state_dict())",), after=("{linear}.load_state_dict(start)",)
    ),
    "loaded-from-itself": Trap(before=("same = {linear}",), after=("same.load_state_dict({linear}.state_dict())",)),
    "stale": Trap(before=("trunk = {module}(x)",), forward=("h = h + trunk",)),
    "schedule": Trap(
        before=(
            "own = torch.optim.SGD({linear}.parameters(), lr=0.1)",
            "schedule = torch.optim.lr_scheduler.ExponentialLR(own, 0.9)",
        ),
        after=("own.step()", "own.zero_grad()"),
    ),
    "zeroed": Trap(
        before=("own = torch.optim.SGD({linear}.parameters(), lr=0.1, momentum=0.9)",),
        after=("if step > 1 and {linear}.bias.grad is not None:", "    {linear}.bias.grad.zero_()", "own.step()"),
    ),
}


def any_program(random: Random, runs: tuple[int, ...] = (1, 2, 3, 5)) -> Program:
    """A valid program in which anything may go wrong with gradients.

    Args:
        random: Where choices come from.
        runs: How often its loop may run.
    """
    to = Writer(random)
    for _ in range(random.randint(1, 2)):
        to.piece(MODULES)
    to.maybe(LEAVES, 2)
    to.maybe(PREPARATIONS, 2)
    optimizer = _optimizer(to) if random.random() < 0.5 else None
    trap = TRAPS[random.choice(list(TRAPS))].written(to) if random.random() < 0.3 else Trap()
    to.add(*trap.before)
    with contextlib.ExitStack() as stack:
        if trap != Trap() or random.random() < 0.5:
            to.loop(stack, runs)
        if optimizer and random.random() < 0.8:
            to.add(f"{optimizer}.zero_grad()")
        _forward(to, STEPS, 4)
        to.add(*trap.forward)
        if random.random() < 0.8:
            _tracked(to)
        to.piece(PASSES)
        if optimizer:
            to.add(f"{optimizer}.step()")
        to.add(*trap.after)
    _reads(to)
    if random.random() < 0.2:
        _forward(to, STEPS, 2)
        _tracked(to)
        _backward(to)
        _reads(to)
    return to.program()


# ---- training in which nothing is wrong


def _logged(to: Writer) -> None:
    to.add(to.random.choice(["total = loss.item()", "seen = loss.detach()", "print(float(loss))"]))


def _clipped(to: Writer) -> None:
    to.add(f"nn.utils.clip_grad_norm_({_all_parameters(to.names)}, 1.0)")


AFTER_BACKWARD: dict[str, Piece] = {"logged": _logged, "clipped": _clipped}


def healthy_program(random: Random, runs: tuple[int, ...] = (2, 3, 5)) -> Program:
    """A training loop as it should be, with what people keep beside it: a target, an average, a teacher, a best copy.

    Args:
        random: Where choices come from.
        runs: How often its loop may run.
    """
    to = Writer(random)
    for _ in range(random.randint(1, 2)):
        to.piece(SAFE_MODULES)
    trained, names = list(to.modules), list(to.names)
    closure = random.random() < 0.2
    beside = [one for one in BESIDE if random.random() < 0.4]
    if closure and "history" in beside:
        beside.remove("history")  # the loss is the closure's own
    source = random.choice(trained)
    for one in beside:
        to.add(*(line.format(source=source) for line in BESIDE[one][0]))
    optimizer = _optimizer_of_all(to, names)
    with contextlib.ExitStack() as loop:
        to.loop(loop, runs)
        with contextlib.ExitStack() as stack:
            if closure:
                stack.enter_context(to.block("def closure():"))
            to.add(f"{optimizer}.zero_grad()", "h = x")
            for number, module in enumerate(trained):
                to.add(f"h = h + {module}(h)")
                if number < 2:
                    to.modules = [module]
                    to.maybe(SAFE_STEPS_OF_A_NORM if module.startswith("norm") else SAFE_STEPS, 1)
            for one in beside:
                to.add(*(line.format(source=source) for line in BESIDE[one][1]))
            to.add(f"loss = {_loss(to)}", "loss.backward()")
            to.maybe(AFTER_BACKWARD, 1)
            if closure:
                to.add("return loss")
        to.add(f"{optimizer}.step({'closure' if closure else ''})")
        for one in beside:
            to.add(*(line.format(source=source) for line in BESIDE[one][2]))
    if random.random() < 0.3:
        module = random.choice(trained)
        to.add(*([f"{module}.eval()"] if random.random() < 0.5 else []))
        with to.block("with torch.no_grad():"):
            to.add(f"print({module}(x).sum().item())")
    return to.program(healthy=True)


def _optimizer_of_all(to: Writer, names: list[str]) -> str:
    to.add(f"opt = {_kind_of_optimizer(to).format(_all_parameters(names))}")
    return "opt"


BESIDE: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "ema": (
        ("ema = copy.deepcopy({source})",),
        (),
        (
            "with torch.no_grad():",
            "    for p, q in zip(ema.parameters(), {source}.parameters()):",
            "        p.lerp_(q, 0.1)",
        ),
    ),
    "ema-data": (
        ("shadow = copy.deepcopy({source}).requires_grad_(False)",),
        (),
        (
            "for p, q in zip(shadow.parameters(), {source}.parameters()):",
            "    p.data.mul_(0.9).add_(q.data, alpha=0.1)",
        ),
    ),
    "target": (
        ("target = copy.deepcopy({source})",),
        ("with torch.no_grad():", "    goal = target(x)", "h = h - goal"),
        ("target.load_state_dict({source}.state_dict())",),
    ),
    "teacher": (
        ("teacher = nn.Sequential(nn.Linear(3, 3), nn.Tanh())", "teacher.requires_grad_(False)"),
        ("h = h + (h - teacher(x)).pow(2)",),
        (),
    ),
    "encoder-under-no-grad": (
        ("encoder = nn.Linear(3, 3)",),
        ("with torch.no_grad():", "    code = encoder(x)", "h = h + code"),
        (),
    ),
    "best-copy": (
        ("best = {source}.state_dict()",),
        (),
        ("best = copy.deepcopy({source}.state_dict())",),
    ),
    "history": (
        ("history = []",),
        (),
        ("history.append(loss.item())",),
    ),
    "saved-weights": (
        ("saved = [p.detach().clone() for p in {source}.parameters()]",),
        (),
        (),
    ),
}
"""For each thing beside a training: lines before the loop, in its forward, and after its step."""

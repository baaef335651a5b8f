"""What torch can raise in autograd: each message has a diagnosis, a sentence, or is left to torch on purpose."""

import warnings

import pytest

from gradscope.analysis.diagnoses.catalogue import diagnosis
from gradscope.analysis.diagnoses.errors.messages_of_autograd import BY_DIAGNOSES, EXPLAINED, SAYS_ITSELF, explained
from gradscope.analysis.report_builder import build
from gradscope.recording import Recording
from tests.analysis.building import recorded

HEAD = "import torch\nfrom torch import nn\nw = torch.ones(3, requires_grad=True)\n"

PROGRAMS = {
    "closure_without_result": """\
optimizer = torch.optim.LBFGS([w])
def closure():
    optimizer.zero_grad()
    (w * w).sum().backward()  # change
optimizer.step(closure)
""",
    "leaf_inplace": """\
w.mul_(2)  # change
""",
    "view_leaf": """\
v = w[:2]
v.add_(1)  # change
""",
    "inference_inplace": """\
with torch.inference_mode():  # change
    t = torch.ones(3)
t.add_(1)
""",
    "inference_view": """\
t = torch.ones(3)
with torch.inference_mode():  # change
    v = t.view(3)
v.add_(w)
""",
    "multiview": """\
a, b, c = (w * 2).unbind()
a += 1  # change
""",
    "saved_detach_": """\
y = w.exp()
z = y * y
y.detach_()  # change
z.sum().backward()
""",
    "resize": """\
w.resize_(4)  # change
""",
    "data_int": """\
w.data = torch.ones(3, dtype=torch.int64)  # change
""",
    "retain_grad_nograd": """\
t = torch.ones(3)  # change
t.retain_grad()
""",
    "hook_nograd": """\
t = torch.ones(3)  # change
t.register_hook(lambda g: g)
""",
    "post_acc_nonleaf": """\
y = w * 2
y.register_post_accumulate_grad_hook(lambda t: None)  # change
""",
    "hook_type": """\
y = w * 2
y.register_hook(lambda g: 3)  # change
y.sum().backward()
""",
    "hook_shape": """\
y = w * 2
y.register_hook(lambda g: g[:1].repeat(2))  # change
y.sum().backward()
""",
    "grad_shape": """\
w.grad = torch.ones(2)  # change
""",
    "grad_notensor": """\
w.grad = 3.0  # change
""",
    "int_req": """\
t = torch.tensor([1, 2], requires_grad=True)  # change
""",
    "nonleaf_flag": """\
y = w * 2
y.requires_grad_(False)  # change
""",
    "element0b": """\
y = (w * 2).detach()  # change
y.sum().backward()
""",
    "notscalar": """\
y = w * 2  # change
y.backward()
""",
    "grad_mismatch": """\
y = w * 2
y.backward(torch.ones(2))  # change
""",
    "unused": """\
v = torch.ones(3, requires_grad=True)
torch.autograd.grad(w.sum(), [w, v])  # change
""",
    "notreq": """\
v = torch.ones(3)  # change
torch.autograd.grad(w.sum(), [w, v])
""",
    "empty_inputs": """\
w.sum().backward(inputs=[])  # change
""",
    "inputs_gen": """\
ps = nn.Linear(2,2).parameters()
list(ps)
torch.autograd.grad(w.sum(), ps)  # change
""",
    "twice": """\
y = w.exp()  # change
y.sum().backward()
y.sum().backward()
""",
    "inplace_saved": """\
y = w.exp()
y.add_(1)  # change
y.sum().backward()
""",
    "functorch_backward": """\
def f(x):
    x.sum().backward()  # change
    return x.sum()
torch.func.grad(f)(w)
""",
    "functorch_reqgrad": """\
def f(x):
    x = x.detach().requires_grad_()  # change
    return x.sum()
torch.func.grad(f)(torch.ones(3))
""",
    "functorch_nonscalar": """\
torch.func.grad(lambda x: x * 2)(torch.ones(3))  # change
""",
    "fn_count": """\
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, g):
        return g, g  # change
F.apply(w).sum().backward()
""",
    "fn_nondiff": """\
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, k):
        return x * k
    @staticmethod
    def backward(ctx, g):
        return g, g  # change
F.apply(w, 2).sum().backward()
""",
    "fn_save": """\
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x, 3)  # change
        return x * 2
    @staticmethod
    def backward(ctx, g):
        return g
F.apply(w).sum().backward()
""",
    "fn_dirty_not_returned": """\
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)  # change
        return x * 1
    @staticmethod
    def backward(ctx, g):
        return g
F.apply(w*1).sum().backward()
""",
    "fn_dirty_leaf": """\
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x
    @staticmethod
    def backward(ctx, g):
        return g
F.apply(w).sum().backward()  # change
""",
    "fn_nobackward": """\
class F(torch.autograd.Function):  # change
    @staticmethod
    def forward(ctx, x):
        return x * 2
F.apply(w).sum().backward()
""",
    "fn_nonstatic": """\
class F(torch.autograd.Function):  # change
    def forward(self, x):
        return x * 2
    def backward(self, g):
        return g
F()(w)
""",
    "fn_once": """\
from torch.autograd.function import once_differentiable
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2
    @staticmethod
    @once_differentiable  # change
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g
(g,) = torch.autograd.grad(F.apply(w).pow(2).sum(), w, create_graph=True)
g.sum().backward()
""",
    "numpy": """\
(w * 2).numpy()  # change
""",
    "out": """\
o = torch.empty(3)
torch.mul(w, 2, out=o)  # change
""",
    "deepcopy": """\
import copy
y = w * 2
copy.deepcopy(y)  # change
""",
    "expand_inplace": """\
e = torch.zeros(1).expand(3)  # change
e.add_(w)
""",
    "opt_nonleaf": """\
opt = torch.optim.SGD([w * 2], lr=0.1)  # change
""",
    "opt_notensor": """\
opt = torch.optim.SGD([1.0], lr=0.1)  # change
""",
    "opt_tensor": """\
opt = torch.optim.SGD(w, lr=0.1)  # change
""",
    "opt_used_up": """\
weights = (p for p in [w])  # change
count = len(list(weights))
opt = torch.optim.SGD(weights, lr=0.1)
""",
    "opt_empty": """\
opt = torch.optim.SGD([], lr=0.1)  # change
""",
    "opt_dup": """\
opt = torch.optim.SGD([{'params': [w]}, {'params': [w]}], lr=0.1)  # change
""",
    "module_nonleaf": """\
m = nn.Linear(3,3)
m.weight = m.weight * 2  # change
""",
    "map_": """\
w.map_(torch.ones(3), lambda a, b: a)  # change
""",
    "checkpoint_reent_grad": """\
from torch.utils.checkpoint import checkpoint
y = checkpoint(torch.exp, w, use_reentrant=True)  # change
torch.autograd.grad(y.sum(), w)
""",
    "unpack": """\
with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: 3):  # change
    y = w.exp()
y.sum().backward()
""",
    "floor_div": """\
y = w // 2  # change
y.sum().backward()
""",
    "qr_complete": """\
a = torch.rand(4, 2, requires_grad=True)
q, r = torch.linalg.qr(a, mode='complete')  # change
q.sum().backward()
""",
    "eig_phase": """\
a = torch.rand(3, 3, dtype=torch.complex64, requires_grad=True)
u, s, v = torch.linalg.svd(a)
u.sum().abs().backward()  # change
""",
    "embedding_nd": """\
e = nn.Embedding(3, 2, scale_grad_by_freq=True, sparse=True)  # change
e(torch.tensor([1])).sum().backward()
""",
    "sparse_adam": """\
e = nn.Embedding(3, 2, sparse=True)  # change
opt = torch.optim.Adam(e.parameters())
e(torch.tensor([1])).sum().backward()
opt.step()
""",
    "complex_loss": """\
z = torch.ones(3, dtype=torch.complex64, requires_grad=True)
z.sum().backward()  # change
""",
    "anomaly": """\
with torch.autograd.detect_anomaly():
    y = (w - 1).sqrt() * 0  # change
    y.sum().backward()
""",
    "second_dropout_attn": """\
q = torch.ones(1,2,4,8, requires_grad=True)
out = nn.functional.scaled_dot_product_attention(q,q,q)  # change
(g,) = torch.autograd.grad(out.sum(), q, create_graph=True)
g.sum().backward()
""",
    "module_two_hooks": """\
m = nn.Linear(2,2)
m.register_backward_hook(lambda *a: None)  # change
m.register_full_backward_hook(lambda *a: None)
""",
    "fbh_nontensor": """\
m = nn.Linear(3,2)
m.register_full_backward_hook(lambda mod, gi, go: (torch.ones(2), torch.ones(1)))  # change
m(torch.ones(1, 3, requires_grad=True)).sum().backward()
""",
    "view_nograd": """\
b = w * 2
with torch.no_grad():
    v = b[:2]
v += 1  # change
""",
    "inference_save": """\
with torch.inference_mode():  # change
    t = torch.ones(3)
(w * t).sum()
""",
    "inference_flag": """\
with torch.inference_mode():  # change
    t = torch.ones(3)
t.requires_grad_()
""",
    "checkpoint_mismatch": """\
from torch.utils.checkpoint import checkpoint
n = [0]
def f(x):
    n[0] += 1
    return x.exp() if n[0] == 1 else x * 2
y = checkpoint(f, w, use_reentrant=False)  # change
y.sum().backward()
""",
    "checkpoint_metadata": """\
from torch.utils.checkpoint import checkpoint
n = [0]
def f(x):
    n[0] += 1
    return torch.cat([x] * n[0]).exp()
y = checkpoint(f, w, use_reentrant=False)  # change
y.sum().backward()
""",
    "pack_inplace": """\
def pack(t):
    t.mul_(2)
    return t
with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):  # change
    y = (w * 1).exp()
y.sum().backward()
""",
    "functorch_notensor": """\
torch.func.grad(lambda x: x.sum().item())(torch.ones(3))  # change
""",
    "fn_shape2": """\
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, g):
        return g[:2]  # change
F.apply(w).sum().backward()
""",
    "no_forward": """\
class F(torch.autograd.Function):  # change
    pass
F.apply(w)
""",
    "qr_r": """\
a = torch.rand(4, 2, requires_grad=True)
q, r = torch.linalg.qr(a, mode='r')  # change
r.sum().backward()
""",
    "hook_dtype": """\
y = w * 2
y.register_hook(lambda g: g.double())  # change
y.sum().backward()
""",
    "lrelu": """\
y = nn.functional.leaky_relu(w * -1, -0.5, inplace=True)  # change
y.sum().backward()
""",
    "double2": """\
f = torch.compile(lambda x: (x**3).sum(), backend='aot_eager')  # change
(g,) = torch.autograd.grad(f(w), w, create_graph=True)
g.sum().backward()
""",
    "fn_view": """\
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)  # change
    @staticmethod
    def backward(ctx, g):
        return g
y = F.apply(w * 2)
y += 1
""",
    "reentrant_none": """\
from torch.utils.checkpoint import checkpoint
y = checkpoint(lambda x: x.detach() * 2, w, use_reentrant=True)  # change
y.sum().backward()
""",
}
"""One program for each message that a few lines can bring up; its line to change is marked."""

NOT_TRIGGERED = {
    "compiled with non-empty donated buffers": "torch.compile with inductor needs a compiler and seconds",
    "can't replace a None gradient with a non-None value": "only nodes of several results hand a hook None",
    "Only input Tensors should be given to ctx.mark_dirty": "2.13 checks it in a mode of the engine's own only",
    "trying to save more tensors during recomputation": "the count is found to differ before that",
    "is not infinitely differentiable": "only of pooling in a layout that the CPU does not use",
}
"""Messages that no program here brings up, and why."""

LEFT_TO_TORCH = {
    "materialize": "torch.autograd.grad(w.sum(), w, allow_unused=False, materialize_grads=True)",
    "dual": "import torch.autograd.forward_ad as fa\nfa.make_dual(w, w)",
    "strict": "torch.autograd.functional.jacobian(lambda x: torch.ones(3), w, strict=True)",
    "closure": "torch.optim.LBFGS([w]).step()",
    "dtypes": "z = w * (1 + 1j)\nz.backward(torch.ones(3))",
}


def _messages(recording: Recording) -> list[str]:
    raised = [recording.text(error.message) for error in recording.errors]
    return [*raised, recording.info.outcome.message]


def _run(program: str) -> Recording:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return recorded(HEAD + program)


def _text_of(messages: list[str]) -> str:
    """The text of the table that the first known message has."""
    known = [*BY_DIAGNOSES, *(one.text for one in EXPLAINED)]
    return next(text for message in messages for text in known if text in message)


@pytest.fixture(scope="module")
def runs() -> dict[str, Recording]:
    return {name: _run(program) for name, program in PROGRAMS.items()}


def test_the_line_to_change_is_named_for_each_message(runs: dict[str, Recording]) -> None:
    for name, recording in runs.items():
        text = _text_of(_messages(recording))
        lines = (HEAD + PROGRAMS[name]).split("\n")
        line = next(number for number, source in enumerate(lines, 1) if source.endswith("# change"))
        codes = BY_DIAGNOSES.get(text, ("refused-by-autograd",))
        answers = [answer for answer in build(recording).answers if answer.severity == "problem"]
        named = {(answer.code, cause.line) for answer in answers for cause in answer.causes}
        assert any((code, line) in named for code in codes), (name, text, named)
        assert len(answers) == 1, (name, [answer.text for answer in answers])


def test_each_message_of_the_table_comes_up_or_is_said_not_to(runs: dict[str, Recording]) -> None:
    seen = {_text_of(_messages(recording)) for recording in runs.values()}
    known = {*BY_DIAGNOSES, *(one.text for one in EXPLAINED)}
    assert known - seen == set(NOT_TRIGGERED)


def test_the_codes_of_the_table_are_those_of_the_catalogue() -> None:
    assert all(diagnosis(code) is not None for codes in BY_DIAGNOSES.values() for code in codes)


def test_a_message_is_listed_once() -> None:
    texts = [*BY_DIAGNOSES, *(one.text for one in EXPLAINED), *SAYS_ITSELF]
    assert len(set(texts)) == len(texts)
    assert not [one.text for one in EXPLAINED if explained(one.text) is not one]


@pytest.mark.parametrize("program", LEFT_TO_TORCH.values(), ids=LEFT_TO_TORCH)
def test_what_torch_says_itself_is_left_to_it(program: str) -> None:
    recording = _run(program)
    message = recording.info.outcome.message
    assert any(text in message for text in SAYS_ITSELF), message
    assert [answer.code for answer in build(recording).answers if answer.severity == "problem"] == []

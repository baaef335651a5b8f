"""Programs of which reports once said what is not so: one a cause, each of which the oracle now reads in full."""

from __future__ import annotations

from textwrap import dedent

_HEAD = "import copy\nimport torch\nfrom torch import nn\ntorch.manual_seed(0)\nx = torch.randn(2, 3)\n"


def _program(text: str) -> str:
    return _HEAD + dedent(text).lstrip("\n")


ONCE_FALSE: dict[str, str] = {
    # what a scripted function saved is counted though its result has no name of its own
    "saved-behind-unseen-calls": _program(
        """
            class OneSided(torch.autograd.Function):
                @staticmethod
                def forward(ctx, h, s):
                    return h * s
                @staticmethod
                def backward(ctx, grad):
                    return grad, None
            @torch.jit.script
            def scripted(h):
                return torch.sigmoid(h) * h
            w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
            for step in range(1):
                h = x
                h = OneSided.apply(h, w)
                h = scripted(h)
                h = h + x
                h.sum().backward()
        """
    ),
    # what a full backward hook gives gets its node when the module is done, and its name another value soon after
    "leaf-that-a-hook-gave": _program(
        """
            net = nn.Linear(3, 3)
            net.register_full_backward_hook(lambda module, inner, outer: None)
            for step in range(1):
                h = x
                h = net(h)
                h = torch.tensor(h.tolist())
            h = x
            h = net(h)
            torch.set_grad_enabled(False)
            h = net(h)
            torch.set_grad_enabled(True)
            h = h + net(x)
        """
    ),
    # the view that such a hook makes inside, under no_grad, is no cut
    "cut-inside-a-hook": _program(
        """
            fc, norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
            norm.register_full_backward_hook(lambda module, inner, outer: None)
            h = fc(x)
            point = x.clone().requires_grad_()
            out = norm(point).tanh().sum()
            (slope,) = torch.autograd.grad(out, point)
            loss = h.sum() + slope.pow(2).sum()
            loss.backward()
        """
    ),
    # of two cuts not the copy of a module is named
    "copied-and-cut": _program(
        """
            norm = nn.BatchNorm1d(3)
            twin = copy.deepcopy(norm)
            h = torch.tanh(x)
            with torch.no_grad():
                h = norm(h)
            h = h + twin(x)
            h.sum().backward()
        """
    ),
    # a gradient that a tensor retained from an earlier pass is not one of this pass
    "kept-in-earlier-runs": _program(
        """
            norm = nn.BatchNorm1d(3)
            for step in range(3):
                h = x
                h = h + norm(h)
                if h.requires_grad:
                    kept = h
                    kept.retain_grad()
                point = x.clone().requires_grad_()
                out = norm(point).tanh().sum()
                (slope,) = torch.autograd.grad(out, point)
                loss = h.sum() + slope.pow(2).sum()
                loss.backward()
            h = x
            h = torch.from_numpy(h.detach().numpy())
            h = h.t().contiguous().t()
            h = h + norm(x)
            loss = h.pow(2).mean()
            loss.backward()
        """
    ),
    # a Function's result that is its input, whose memory was written before
    "function-on-written-memory": _program(
        """
            class Same(torch.autograd.Function):
                @staticmethod
                def forward(ctx, h):
                    return h
                @staticmethod
                def backward(ctx, grad):
                    return grad
            w = torch.randn(3, requires_grad=True)
            h = w * x
            h.mul_(2)
            h = Same.apply(h)
            h.sum().backward()
        """
    ),
    # what reentrant checkpoint computes again inside a backward pass is counted, and the row is of the other runs
    "recomputed-in-backward": _program(
        """
            from torch.utils.checkpoint import checkpoint
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.first = nn.Linear(3, 3)
                def forward(self, h):
                    h = torch.tanh(self.first(h))
                    return h * 2
            net, fc = Net(), nn.Linear(3, 3)
            h = fc(x)
            h = checkpoint(net, h, use_reentrant=True)
            h.sum().backward()
        """
    ),
    # the same of checkpoint that is not reentrant, which leaves the function as soon as it can
    "counted-again-in-backward": _program(
        """
            from torch.utils.checkpoint import checkpoint
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.first = nn.Linear(3, 3)
                def forward(self, h):
                    h = torch.tanh(self.first(h))
                    return h * 2
            net = Net()
            h = checkpoint(net, x, use_reentrant=False)
            h.sum().backward()
        """
    ),
    # a call of torch's own that runs the user's code gives rows before and after it
    "parted-by-the-users-code": _program(
        """
            net = nn.Linear(3, 3)
            for step in range(1):
                h = net(x)
                slopes = torch.func.grad(lambda v: (v * 2).sin().sum())(h.detach())
        """
    ),
    # calls of torch's own that follow each other at once
    "calls-in-a-row": _program(
        """
            net = nn.Linear(3, 3)
            for step in range(4):
                nn.init.xavier_uniform_(net.weight)
            for step in range(3):
                nn.Linear(3, 3)
        """
    ),
    # a gradient of an earlier pass is not one of the last, though another thread made nodes
    "last-pass-with-threads": _program(
        """
            import threading
            nets = [nn.Linear(3, 3), nn.Linear(3, 3)]
            def work():
                torch.tanh(x * 2)
            for step in range(2):
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
                for net in nets:
                    net(x).sum().backward()
        """
    ),
    # what gives a tensor a grad_fn only after a call is looked for in every run
    "given-in-a-late-run": _program(
        """
            class Same(torch.autograd.Function):
                @staticmethod
                def forward(ctx, h):
                    return h
                @staticmethod
                def backward(ctx, grad):
                    return grad
            net = nn.Linear(3, 3)
            for step in range(18):
                h = net(x)
                h = Same.apply(h)
                buffer = torch.zeros(2, 3)
                buffer.data.copy_(h * 2)
                h = buffer + net(x)
                h.sum().backward()
        """
    ),
    # values that left torch came back, and not into what the pass started from
    "values-that-came-back": _program(
        """
            net, other = nn.Linear(3, 3), nn.Linear(3, 3)
            optimizer = torch.optim.SGD([*net.parameters(), *other.parameters()], lr=0.1)
            h = net(x)
            h = torch.from_numpy(h.detach().numpy())
            h = h * 2
            other(x).sum().backward()
        """
    ),
    # what a statement clears at several places; a reason for a leaf of long ago; a module that clears nothing at first
    "cleared-at-two-places": _program(
        """
            net = nn.Linear(3, 3)
            for step in range(12):
                net.zero_grad()
                point = x.clone().requires_grad_()
                net(x).sum().backward()
                net.weight.grad = net.bias.grad = None
        """
    ),
    # a leaf that is frozen in the last pass got nothing from that
    "frozen-in-the-last-pass": _program(
        """
            body, head = nn.Linear(3, 3), nn.Linear(3, 3)
            optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
            for step in range(3):
                optimizer.zero_grad()
                body.requires_grad_(step < 1)
                head(body(x)).sum().backward()
        """
    ),
    # a name that a checkpointed function gives anew is none that the leaf has
    "name-of-another": _program(
        """
            from torch.utils.checkpoint import checkpoint
            fc = nn.Linear(3, 3)
            def block(module, h):
                def run(value):
                    value = module(value)
                    return torch.tanh(value)
                return checkpoint(run, h, use_reentrant=True)
            h = block(fc, x)
            h.sum().backward()
        """
    ),
    # two names that change places between two calls hold each other's from then on, and not before
    "swapped-between-calls": _program(
        """
            other, actor, critic = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
            actor.load_state_dict(critic.state_dict())
            actor, critic = critic, actor
            optimizer = torch.optim.SGD(actor.parameters(), lr=0.1)
            for step in range(2):
                h = torch.tanh(x)
                for net in [other, critic]:
                    net(x).sum().backward()
        """
    ),
    # the same right after both were made, before any call read them
    "swapped-at-once": _program(
        """
            def run(module, h):
                return module(h)
            actor, critic = nn.Linear(3, 3), nn.Linear(3, 3)
            critic, actor = actor, critic
            h = run(critic, x)
            h.sum().backward()
        """
    ),
    # a parameter has the name under which its line put it, whatever it is called when it is first seen
    "wrapped-then-renamed": _program(
        """
            first, second = nn.Linear(3, 3), nn.Linear(3, 3)
            blocks = [nn.Linear(3, 3), nn.Linear(3, 3)]
            first.weight = nn.Parameter(torch.randn(3, 3))
            second, first = first, second
            blocks[1].weight = nn.Parameter(torch.randn(3, 3))
            blocks[0].weight = blocks[1].weight
            (second(x) + blocks[0](x)).sum().backward()
        """
    ),
    # what a line takes in comes from an earlier one, not from the call that the line is about to make of it
    "taken-by-its-own-line": _program(
        """
            @torch.jit.script
            def scripted(h):
                return torch.sigmoid(h) * h
            h = x
            h = scripted(h)
            h = torch.func.vmap(lambda row: row.sin())(h)
            h = scripted(h)
            fc = nn.Linear(3, 3)
            h = torch.func.functional_call(fc, dict(fc.named_parameters()), (h,))
            h.sum().backward()
        """
    ),
    # what a Function gave is looked for where the next call is in a function of the user's, too
    "taken-by-an-inner-call": _program(
        """
            class Same(torch.autograd.Function):
                @staticmethod
                def forward(ctx, h):
                    return h
                @staticmethod
                def backward(ctx, grad):
                    return grad
            def block(module, h):
                h = module(h)
                return h * 2
            fc, w = nn.Linear(3, 3), torch.randn(3, requires_grad=True)
            h = x * w
            h = Same.apply(h)
            h = block(fc, h)
            h.sum().backward()
        """
    ),
    # what a line takes out of torch itself is what it builds of, not what another line took out before
    "values-of-its-own-line": _program(
        """
            fc, w = nn.Linear(3, 3), torch.randn(3, requires_grad=True)
            array = w.detach().numpy()
            array[0] = 0.25
            h = torch.tensor(x.tolist())
            h = torch.from_numpy(h.detach().numpy()) + fc(x)
            loss = h.sum()
            loss.backward()
        """
    ),
    # passes of two lines are counted at the line that is named
    "passes-of-two-lines": _program(
        """
            fc, left_out = nn.Linear(3, 3), nn.Linear(3, 3)
            optimizer = torch.optim.SGD(fc.parameters(), lr=0.1)
            for step in range(3):
                h = fc(x) + left_out(x)
                loss, other = h.sum(), h.pow(2).sum()
                loss.backward(retain_graph=True)
                other.backward()
                optimizer.step()
        """
    ),
    # a checkpoint that cuts is named by its own line, whatever cuts another way from the same leaf
    "cut-by-checkpoint-too": _program(
        """
            from torch.utils.checkpoint import checkpoint
            fc, last, other = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
            with torch.no_grad():
                h = fc(x)
            h = checkpoint(fc, h, use_reentrant=True)
            torch.set_grad_enabled(False)
            h = last(h)
            torch.set_grad_enabled(True)
            h = h + other(x)
            h.sum().backward()
        """
    ),
    # a node without a number is one node, wherever it is met
    "node-without-derivative": _program(
        """
            w = torch.randn(3, requires_grad=True)
            whole = w // 2
            halved = whole * 0.5
            part = w // 2
            loss = (whole * w + halved + part).sum()
            loss.backward()
        """
    ),
    # nor is it several where edges alone lead to it
    "node-of-a-second-derivative": _program(
        """
            from torch.nn.attention import SDPBackend, sdpa_kernel
            q = torch.ones(1, 2, 4, 8, requires_grad=True)
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                out = nn.functional.scaled_dot_product_attention(q, q, q)
            (slope,) = torch.autograd.grad(out.sum(), q, create_graph=True)
            loss = slope.sum()
            loss.backward()
        """
    ),
    # a function's own name in the runs that were not looked at, too
    "name-by-repetition-in-a-function": _program(
        """
            def jitter(h):
                h += 0.1
                return h
            for step in range(40):
                h = x * 1
                noisy = jitter(h)
                h = h * noisy
        """
    ),
    # what a name held in an earlier run is not what it holds when a pass begins
    "name-of-an-earlier-run": _program(
        """
            fc, other = nn.Linear(3, 3), nn.Linear(3, 3)
            for step in range(18):
                h = fc(x).view(-1).view(2, 3)
                if h.requires_grad:
                    kept = h
                    kept.retain_grad()
                h = h + other(x)
                h.sum().backward()
        """
    ),
    # a decorator's own op is not where the frame of its caller stands, whose names wait to be looked at
    "checkpoint-before-a-decorated-call": _program(
        """
            from torch.utils.checkpoint import checkpoint
            @torch.no_grad()
            def features(h):
                return torch.sigmoid(h) * 2
            fc = nn.Linear(3, 3)
            h = checkpoint(fc, x.clone().requires_grad_(), use_reentrant=True)
            h = features(h)
        """
    ),
    # a line that makes no call itself ran again inside backward as often as its neighbours
    "line-of-modules-run-again": _program(
        """
            from torch.utils.checkpoint import checkpoint
            def block(module, h):
                def run(value):
                    value = module(value)
                    return torch.tanh(value)
                return checkpoint(run, h, use_reentrant=True)
            plain, net = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh())
            for step in range(3):
                h = block(plain, x)
                h = block(net, h.clone().requires_grad_())
                h.sum().backward()
        """
    ),
    # a loop's name holds behind the loop what its last item was, whichever was looked at
    "name-of-a-loop-behind-it": _program(
        """
            first, second = nn.Linear(3, 3), nn.Linear(3, 3)
            first, second = second, first
            for step in range(40):
                with torch.no_grad():
                    h = second(x)
                h = h + first(x)
                h.sum().backward()
                for p in second.parameters():
                    if p.grad is not None:
                        p = p - p.grad
        """
    ),
    # names are looked at in some runs: what a call was found to have made then, it made in the others
    "result-of-a-function-under-another-name": _program(
        """
            class OneSided(torch.autograd.Function):
                @staticmethod
                def forward(ctx, h, s):
                    return h * s
                @staticmethod
                def backward(ctx, grad):
                    return grad, None
            w = torch.randn(3, requires_grad=True)
            for step in range(40):
                h = x * w
                h = OneSided.apply(h, w)
                if h.requires_grad:
                    kept = h
                    kept.retain_grad()
                h = h + 1
                h.sum().backward()
        """
    ),
    # where a module has backward hooks its outputs have a node, also those that no name led to
    "hooked-module-in-a-comprehension": _program(
        """
            fc = nn.Linear(3, 3)
            fc.register_full_backward_hook(lambda module, inner, outer: None)
            results = [fc(x) for _ in range(3)]
        """
    ),
    # a name that a loop gives to another tensor before it comes back is not what an earlier statement stored
    "name-stored-again-by-the-loop": _program(
        """
            def jitter(h):
                h += 0.1
                return h
            @torch.jit.script
            def scripted(h):
                return torch.sigmoid(h) * h
            fc = nn.Linear(3, 3)
            for step in range(60):
                h = x
                h = h * 1
                noisy = jitter(h)
                h = h * noisy
                h = scripted(h)
                h = h + fc(x)
                h.sum().backward()
        """
    ),
    # what functions of the program do to a tensor before the line that calls them is over
    "changed-by-what-the-line-calls": _program(
        """
            def freeze(module):
                for p in module.parameters():
                    p.requires_grad_(False)
                return module
            def each(module):
                return freeze(module)
            def tracked(t):
                t.requires_grad = True
                return t
            def jitter(h):
                h += 0.1
                return h
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.body = each(nn.Linear(3, 3))
                    self.head = nn.Linear(3, 3)
            net = freeze(nn.Linear(3, 3))
            layers = nn.Sequential(each(nn.Linear(3, 3)), nn.ReLU())
            model = Net()
            for step in range(3):
                leaf = tracked(torch.zeros(3))
                noisy = jitter(x * 1)
            later = nn.Linear(3, 3)
            freeze(later)
            again = freeze(nn.Linear(3, 3))
            for p in again.parameters():
                p.requires_grad_(True)
            twice = jitter(x * 1)
            jitter(twice)
        """
    ),
    # a copy of a state under a condition, which makes any number of calls
    "copied-in-some-passes": _program(
        """
            w = torch.zeros(3, requires_grad=True)
            for step in range(4):
                h = x * w
                if step == 1:
                    kept = copy.deepcopy({"w": w, "x": x})
                if step > 1:
                    rows = list(w)
        """
    ),
    # a term that has the name of the sum, and of what it was computed from
    "term-without-gradient": _program(
        """
            first, second = nn.Linear(3, 3), nn.Linear(3, 3)
            opt = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
            for step in range(2):
                h = first(x)
                torch.set_grad_enabled(False)
                h = second(h)
                torch.set_grad_enabled(True)
                h = h + first(x)
                other = second(h).sum()
                loss = h.sum()
                loss.backward(retain_graph=True)
                other.backward()
                opt.step()
        """
    ),
}

"""Ways to stop a gradient, side by side: what each does to autograd and to memory

Tags: compare, detach, no_grad, data, clone

Every cell takes `result` from the same `source` and asks whether `weight * 2` is tracked there. `result` goes into a
loss and its backward pass, and then it is written to. Run the cells against each other with `gradscope compare`.
"""

import torch


def start():
    """A source that requires grad (computed, no leaf); exp keeps the source itself for backward."""
    weight = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
    source = weight.exp()
    source.retain_grad()
    return weight, source


def use(weight, result, there):
    """A loss that depends on the result and on a head of its own, and its backward pass."""
    later = (weight * 2).requires_grad
    # watch: there  # scope: weight * 2 there is tracked
    # watch: later  # scope: weight * 2 later is tracked
    stopped = "all in the region" if later else "the leaf, for good"
    if there:
        stopped = "nothing" if result.requires_grad else "one tensor"
    # watch: stopped  # scope: what is stopped
    head = torch.ones(3, requires_grad=True)
    usable = "yes"
    loss = None
    try:
        loss = (result * head).sum()
        loss.backward(retain_graph=True)
    except RuntimeError as error:
        usable = str(error).split(". ")[0]
    # watch: weight.grad is not None  # autograd: gradient reaches weight
    # watch: usable  # afterwards: usable in autograd
    return loss


def write(weight, source, result):
    """Write to the result; then ask for the source's own gradient, which is exp(weight)."""
    right = weight.detach().exp()
    later = "the write raises"
    try:
        result.mul_(10)
        later = "no gradient"
        if weight.requires_grad:
            later = "raises"
            (gradient,) = torch.autograd.grad(source.sum(), weight)
            later = "right" if torch.allclose(gradient, right) else "silently wrong"
    except RuntimeError as error:
        why = str(error).split(". ")[0]  # watch: why  # errors: after writing to the result
    seen = not torch.equal(source.detach(), right)
    # watch: seen  # storage: write to result seen in source
    # watch: later  # storage: backward through source after it
    return seen, later


# %% nothing
weight, source = start()
result, there = source, (weight * 2).requires_grad
loss = use(weight, result, there)  # expect: reaches(loss, weight)
seen, later = write(weight, source, result)
# expect: (seen, later) == (True, "raises")

# %% detach()
weight, source = start()
result, there = source.detach(), (weight * 2).requires_grad
loss = use(weight, result, there)  # expect: not reaches(loss, weight) and source.grad is None
seen, later = write(weight, source, result)
# expect: (seen, later) == (True, "raises")

# %% requires_grad_(False)
weight, source = start()
try:
    source.requires_grad_(False)
except RuntimeError as error:
    refused = str(error)  # watch: refused  # errors: source.requires_grad_(False)
# expect: raised(RuntimeError)
weight.requires_grad_(False)  # a leaf
result, there = weight.exp(), (weight * 2).requires_grad
loss = use(weight, result, there)  # expect: not reaches(loss, weight) and source.grad is None
seen, later = write(weight, source, result)
# expect: (seen, later) == (False, "no gradient")

# %% no_grad()
weight, source = start()
with torch.no_grad():
    result, there = weight.exp(), (weight * 2).requires_grad
loss = use(weight, result, there)  # expect: not reaches(loss, weight) and source.grad is None
seen, later = write(weight, source, result)
# expect: (seen, later) == (False, "right")

# %% set_grad_enabled(False)
weight, source = start()
with torch.set_grad_enabled(False):
    result, there = weight.exp(), (weight * 2).requires_grad
loss = use(weight, result, there)  # expect: not reaches(loss, weight) and source.grad is None
seen, later = write(weight, source, result)
# expect: (seen, later) == (False, "right")

# %% inference_mode()
weight, source = start()
with torch.inference_mode():
    result, there = weight.exp(), (weight * 2).requires_grad
loss = use(weight, result, there)  # expect: loss is None and result.is_inference()
seen, later = write(weight, source, result)
# expect: (seen, later) == (False, "the write raises")

# %% .data
weight, source = start()
result, there = source.data, (weight * 2).requires_grad
loss = use(weight, result, there)  # expect: not reaches(loss, weight) and source.grad is None
seen, later = write(weight, source, result)
# expect: (seen, later) == (True, "silently wrong")

# %% detach().clone()
weight, source = start()
result, there = source.detach().clone(), (weight * 2).requires_grad
loss = use(weight, result, there)  # expect: not reaches(loss, weight) and source.grad is None
seen, later = write(weight, source, result)
# expect: (seen, later) == (False, "right")

# %% clone()
weight, source = start()
result, there = source.clone(), (weight * 2).requires_grad
loss = use(weight, result, there)  # expect: reaches(loss, weight)
seen, later = write(weight, source, result)
# expect: (seen, later) == (False, "right")

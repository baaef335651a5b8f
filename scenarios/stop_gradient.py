"""Ways to stop a gradient, side by side

Tags: compare, detach, no_grad, data, clone

Every cell computes `source` from `weight`, by exp, which keeps its result for backward, and takes `result` from it in
its own way; where nothing is tracked both are one. `result` goes into a loss that keeps nothing. Then the way is taken
once more, to write to its result. Run the cells against each other with `gradscope compare`.
"""

import torch


def start():
    weight = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)  # shown
    return weight  # noqa: RET504 - the line above is shown as people write it


def use(weight, source, result, there):
    """A loss that depends on the result and on a head of its own, and its backward pass."""
    later = (weight + 1).requires_grad
    # watch: there  # scope: weight + 1 there is tracked
    # watch: later  # scope: weight + 1 later is tracked
    acts_on = "region" if later else "leaf"
    if there:
        acts_on = "nothing" if result.requires_grad else "tensor"
    memory = "same" if result is source else "shared" if result.data_ptr() == source.data_ptr() else "own"
    head = torch.ones(3, requires_grad=True)
    loss = (result + head).sum()  # shown
    # watch: result.requires_grad  # summary: result tracked
    # watch: saved_bytes(source)  # summary: bytes saved
    loss.backward()  # shown
    # watch: weight.grad is not None  # summary: weight gets grad
    # watch: memory  # summary: memory
    # watch: acts_on  # summary: acts on
    # watch: acts_on  # scope: what is stopped
    return loss


def write(way):
    """Write to the result; then ask for the gradient of the source, which is exp(weight)."""
    weight = start()
    source, result, _ = way(weight)
    right = weight.detach().exp()
    later = "refused"
    try:
        result.add_(1)  # shown: with weight, source and result made anew
        later = "no gradient"
        if source.requires_grad:
            later = "raises"
            (gradient,) = torch.autograd.grad(source.sum(), weight)  # shown
            later = "right" if torch.allclose(gradient, right) else "silently wrong"
    except RuntimeError as error:
        why = str(error).split(". ")[0]  # watch: why  # errors: after writing to the result
    seen = not torch.equal(source.detach(), right)
    # watch: seen  # storage: write to result seen in source
    # watch: later  # storage: backward through source after it
    # watch: later  # summary: write to result, then backward
    return seen, later


# %% detach()
def way(weight):
    source = weight.exp()  # shown
    result = source.detach()  # shown
    return source, result, (weight + 1).requires_grad


weight = start()
source, result, there = way(weight)
loss = use(weight, source, result, there)  # expect: not reaches(loss, weight) and source.grad_fn is not None
seen, later = write(way)  # expect: (seen, later) == (True, "raises")


# %% requires_grad_(False)
def way(weight):
    weight.requires_grad_(False)
    source = weight.exp()
    return source, source, (weight + 1).requires_grad


weight = start()
try:
    (weight + 1).requires_grad_(False)  # a leaf can be switched off, what was computed from one cannot
except RuntimeError as error:
    refused = str(error)  # watch: refused  # errors: requires_grad_(False) on weight + 1
# expect: raised(RuntimeError)
source, result, there = way(weight)
loss = use(weight, source, result, there)  # expect: not reaches(loss, weight) and saved_bytes(source) == 0
seen, later = write(way)  # expect: (seen, later) == (True, "no gradient")


# %% no_grad()
def way(weight):
    with torch.no_grad():
        source = weight.exp()
        return source, source, (weight + 1).requires_grad


weight = start()
source, result, there = way(weight)
loss = use(weight, source, result, there)  # expect: not reaches(loss, weight) and saved_bytes(source) == 0
seen, later = write(way)  # expect: (seen, later) == (True, "no gradient")


# %% set_grad_enabled(False)
def way(weight):
    with torch.set_grad_enabled(False):
        source = weight.exp()
        return source, source, (weight + 1).requires_grad


weight = start()
source, result, there = way(weight)
loss = use(weight, source, result, there)  # expect: not reaches(loss, weight) and saved_bytes(source) == 0
seen, later = write(way)  # expect: (seen, later) == (True, "no gradient")


# %% inference_mode()
def way(weight):
    with torch.inference_mode():
        source = weight.exp()
        return source, source, (weight + 1).requires_grad


weight = start()
source, result, there = way(weight)
loss = use(weight, source, result, there)  # expect: not reaches(loss, weight) and saved_bytes(source) == 0
try:
    result * torch.ones(3, requires_grad=True)  # a product keeps its factors
except RuntimeError as error:
    refused = str(error).split(". ")[0]  # watch: refused  # errors: result in a product
# expect: raised(RuntimeError) and result.is_inference()
seen, later = write(way)  # expect: later == "refused"  # and yet it is done


# %% .data
def way(weight):
    source = weight.exp()
    return source, source.data, (weight + 1).requires_grad


weight = start()
source, result, there = way(weight)
loss = use(weight, source, result, there)  # expect: not reaches(loss, weight) and source.grad_fn is not None
seen, later = write(way)  # expect: (seen, later) == (True, "silently wrong")


# %% detach().clone()
def way(weight):
    source = weight.exp()
    return source, source.detach().clone(), (weight + 1).requires_grad


weight = start()
source, result, there = way(weight)
loss = use(weight, source, result, there)  # expect: not reaches(loss, weight) and source.grad_fn is not None
seen, later = write(way)  # expect: (seen, later) == (False, "right")


# %% clone()
def way(weight):
    source = weight.exp()
    return source, source.clone(), (weight + 1).requires_grad


weight = start()
source, result, there = way(weight)
loss = use(weight, source, result, there)  # expect: reaches(loss, weight)
seen, later = write(way)  # expect: (seen, later) == (False, "right")


# %% nothing
def way(weight):
    source = weight.exp()
    return source, source, (weight + 1).requires_grad


weight = start()
source, result, there = way(weight)
loss = use(weight, source, result, there)  # expect: reaches(loss, weight)
seen, later = write(way)  # expect: (seen, later) == (True, "raises")

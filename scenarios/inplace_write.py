"""Writing to a tensor in the middle of a graph: right, an error, or silently wrong

Tags: compare, inplace, version, data, trap

`y = 2 x` is multiplied by 3 in place, before or after `y * y` has kept it for backward. Finite differences of the same
program tell what the gradient should be. Run the cells against each other with `gradscope compare inplace_write`.
"""

import torch


def run(x, write, when):
    """The program: what is computed from x, with the write in it."""
    y = x * 2
    if when == "before":
        write(y)
    z = y * y
    if when == "after":
        write(y)
    return z.sum()


def oracle(write, when):
    """The gradient by finite differences: whatever was written, and however, is in the values."""
    step = torch.eye(2, dtype=torch.float64) * 1e-4
    return torch.stack([(run(start() + h, write, when) - run(start() - h, write, when)) / 2e-4 for h in step]).detach()


def start():
    return torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)


def gradient(write, when):
    """What autograd makes of it."""
    x = start()
    try:
        run(x, write, when).backward()
    except RuntimeError as error:
        return "error: " + str(error).split(":")[0]
    return "right" if torch.allclose(x.grad, oracle(write, when)) else "silently wrong"


def under_no_grad(y):
    with torch.no_grad():
        y.mul_(3)


# %% the tensor
before = gradient(lambda y: y.mul_(3), "before")  # expect: before == "right"
after = gradient(lambda y: y.mul_(3), "after")  # expect: after.startswith("error: ") and raised(RuntimeError)
# watch: before  # the gradient: written before it was saved
# watch: after  # the gradient: written after it was saved

# %% a view
before = gradient(lambda y: y.view(2).mul_(3), "before")  # expect: before == "right"
after = gradient(lambda y: y.view(2).mul_(3), "after")  # expect: after.startswith("error: ")
# watch: before  # the gradient: written before it was saved
# watch: after  # the gradient: written after it was saved

# %% detach()
before = gradient(lambda y: y.detach().mul_(3), "before")  # expect: before == "silently wrong"
after = gradient(lambda y: y.detach().mul_(3), "after")  # expect: after.startswith("error: ")
# watch: before  # the gradient: written before it was saved
# watch: after  # the gradient: written after it was saved

# %% .data
before = gradient(lambda y: y.data.mul_(3), "before")  # expect: before == "silently wrong"
after = gradient(lambda y: y.data.mul_(3), "after")  # expect: after == "silently wrong"
# watch: before  # the gradient: written before it was saved
# watch: after  # the gradient: written after it was saved

# %% under no_grad
before = gradient(under_no_grad, "before")  # expect: before == "silently wrong"
after = gradient(under_no_grad, "after")  # expect: after.startswith("error: ")
# watch: before  # the gradient: written before it was saved
# watch: after  # the gradient: written after it was saved

# %% a clone
before = gradient(lambda y: y.clone().mul_(3), "before")  # expect: before == "right"
after = gradient(lambda y: y.clone().mul_(3), "after")  # expect: after == "right"
# watch: before  # the gradient: written before it was saved
# watch: after  # the gradient: written after it was saved

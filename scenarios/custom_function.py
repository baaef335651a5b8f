"""A custom autograd.Function: what it keeps in ctx, and a gradient of its own

Tags: function, ctx, memory
"""

import torch


class ClampedExp(torch.autograd.Function):
    """exp(x), with a gradient that is never larger than 1."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()  # expect: not y.requires_grad
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y.clamp(max=1.0)


x = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
y = ClampedExp.apply(x)
# expect: y.requires_grad and grad_fn(y) == "ClampedExpBackward"
# expect: saved_bytes(y) == 12

y.sum().backward()
# expect: torch.allclose(x.grad, x.detach().exp().clamp(max=1.0))
print(f"x.grad = {x.grad.tolist()}")

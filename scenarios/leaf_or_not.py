"""Leaf or not: why .grad is None although requires_grad is True

Tags: leaf, grad, trap
"""

import warnings

import torch

a = torch.ones(2, requires_grad=True)  # expect: a.is_leaf
b = torch.ones(2, requires_grad=True) * 2  # made by an operation: no leaf
# expect: b.requires_grad and not b.is_leaf

(a * b).sum().backward()
# expect: a.grad.tolist() == [2.0, 2.0]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(f"a.grad = {a.grad}, b.grad = {b.grad}")
# expect: b.grad is None
# expect: "non-leaf" in str(caught[0].message)

try:
    b.requires_grad_(False)  # a non-leaf cannot be switched off: detach() it
except RuntimeError as error:
    print(error)
# expect: raised(RuntimeError)

c = torch.ones(2, requires_grad=True) * 2
c.retain_grad()  # keep the gradient of a non-leaf
c.sum().backward()
# expect: c.grad.tolist() == [1.0, 1.0]
d = (torch.ones(2) * 2).requires_grad_()  # expect: d.is_leaf

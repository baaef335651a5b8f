"""detach(): a new tensor outside the graph, on the same memory

Tags: detach, storage, basics
"""

import torch

a = torch.tensor([1.0, 2.0], requires_grad=True)
b = a.detach()
# expect: b is not a and not b.requires_grad
# expect: shares_storage(a, b) and shares_version(a, b)

loss = (a**2).sum()
loss.backward()
# expect: a.grad.tolist() == [2.0, 4.0]
# expect: b.grad is None

b[0] = 6.0  # one memory: the write shows in both
# expect: a.tolist() == [6.0, 2.0]
# expect: version(a) == version(b) == 1
print(f"a = {a.tolist()}, b = {b.tolist()}, a.grad = {a.grad.tolist()}, b.grad = {b.grad}")

c = (a.detach() * a).sum()  # here a is a constant once, and tracked once
# expect: reaches(c, a)
d = a.detach() * 3
# expect: not reaches(d, a) and not d.requires_grad

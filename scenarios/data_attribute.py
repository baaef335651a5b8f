""".data: the same memory under another tensor, with a version counter of its own

Tags: data, storage, version
"""

import torch

a = torch.tensor([1.0, 2.0], requires_grad=True)
b = a.data
# expect: b is not a and shares_storage(a, b)
# expect: not b.requires_grad and b.is_leaf

b[0] = 5.0  # no error, though a is a leaf that requires grad
# expect: a.tolist() == [5.0, 2.0]
# expect: version(b) == 1 and version(a) == 0
# expect: not shares_version(a, b)

(a**2).sum().backward()
# expect: a.grad.tolist() == [10.0, 4.0]
# expect: b.grad is None
print(f"a = {a.tolist()}, a.grad = {a.grad.tolist()}, b.grad = {b.grad}")

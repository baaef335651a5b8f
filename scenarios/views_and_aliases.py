"""Views, aliases and copies: who shares memory with whom

Tags: storage, view, clone, copy
"""

import copy

import torch

a = torch.zeros(2, 3)
row = a[0]
flat = a.view(6)
turned = a.t()
# expect: all(shares_storage(a, view) for view in (row, flat, turned))
# expect: all(shares_version(a, view) for view in (row, flat, turned))

row.fill_(7.0)
# expect: a.sum() == 21.0 and flat[0] == 7.0
# expect: version(a) == version(flat) == 1

straight = a.contiguous()  # expect: straight is a
copied = turned.contiguous()  # expect: not shares_storage(copied, a)
chosen = a[[0, 1]]  # expect: not shares_storage(chosen, a)
clone = a.clone()  # expect: not shares_storage(clone, a)
deep = copy.deepcopy(a)  # expect: not shares_storage(deep, a)
shallow = copy.copy(a)  # expect: shares_storage(shallow, a)
numbers = a.reshape(-1)  # expect: shares_storage(numbers, a)
numbers_of_turned = turned.reshape(-1)  # expect: not shares_storage(numbers_of_turned, a)
print(f"a = {a.tolist()}, clone = {clone.tolist()}")

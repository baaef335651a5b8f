"""no_grad(): nothing that is computed inside is recorded, and nothing is kept for backward

Tags: no_grad, memory, modes
"""

import torch

x = torch.ones(1000, requires_grad=True)

with torch.no_grad():  # expect: not torch.is_grad_enabled()
    inside = x.exp()
    # expect: not inside.requires_grad and grad_fn(inside) is None
    fresh = torch.zeros(2, requires_grad=True)  # the region is about operations: a flag can still be set
# expect: torch.is_grad_enabled()
# expect: fresh.requires_grad and x.requires_grad

outside = x.exp()
# expect: outside.requires_grad and grad_fn(outside) == "ExpBackward0"
# expect: saved_bytes(inside) == 0
# expect: saved_bytes(outside) == 4000
print(f"inside requires grad: {inside.requires_grad}, outside: {outside.requires_grad}")

"""A sum of losses that keeps every graph alive, and the one that does not

Tags: memory, loop, trap, item
"""

import torch

torch.manual_seed(0)
w = torch.randn(100, requires_grad=True)

total = 0
for step in range(1, 4):
    x = torch.randn(100)
    loss = (w * x).exp().mean()  # keeps x and the result of exp: 800 bytes
    # expect: saved_bytes(loss) == 800
    total = total + loss
    # expect: saved_bytes(total) == 800 * step
    print(f"step {step}: mean loss {total / step:.3f}")
# expect: total.requires_grad and reaches(total, w)

total = 0.0
for step in range(1, 4):
    x = torch.randn(100)
    loss = (w * x).exp().mean()
    total += loss.item()  # a Python number: the graph dies with this round
    # expect: type(total) is float
    print(f"step {step}: mean loss {total / step:.3f}")

"""Checkpointing: keep the input of a block instead of all that it computes, and compute it again

Tags: memory, checkpoint
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)
calls = 0


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())

    def forward(self, x):
        global calls
        calls += 1
        return self.layers(x)


block = Block()
x = torch.randn(256, 64, requires_grad=True)

plain = block(x).sum()  # expect: calls == 1
kept = 256 * 64 * 4  # bytes of one activation
# expect: saved_bytes(plain) >= 3 * kept
plain.backward()  # expect: calls == 1
right = x.grad.clone()

x.grad = None
again = checkpoint(block, x, use_reentrant=False).sum()  # expect: calls == 2
# expect: saved_bytes(again) < kept
# expect: reaches(again, x)
again.backward()  # the block runs once more here
# expect: calls == 3
# expect: torch.equal(x.grad, right)
print(f"the block ran {calls} times for two backward passes")

"""A target network: copied, left out of the loss, and moved slowly under no_grad

Tags: no_grad, deepcopy, ema, rl
"""

import copy

import torch
from torch import nn

torch.manual_seed(0)
online = nn.Linear(3, 1)
target = copy.deepcopy(online).requires_grad_(False)
# expect: not shares_storage(online.weight, target.weight)
optimizer = torch.optim.SGD(online.parameters(), lr=0.1)
state, following, reward = torch.randn(8, 3), torch.randn(8, 3), torch.randn(8, 1)

for step in range(3):
    with torch.no_grad():
        goal = reward + 0.9 * target(following)  # expect: not goal.requires_grad
    loss = (online(state) - goal).pow(2).mean()
    # expect: reaches(loss, online.weight) and not reaches(loss, target.weight)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.3f}")
    with torch.no_grad():
        for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
            slow.lerp_(fast, 0.05)
            # expect: version(slow) == step + 1 and not slow.requires_grad

# expect: target.weight.grad is None
# expect: not torch.equal(online.weight, target.weight)

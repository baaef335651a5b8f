"""Freezing a backbone: its parameters stay, and the head still learns

Tags: freeze, requires_grad, module
"""

import torch
from torch import nn

torch.manual_seed(0)
backbone = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
head = nn.Linear(8, 2)

backbone.requires_grad_(False)
backbone.eval()  # changes what dropout and batchnorm do, not what autograd records
# expect: not any(p.requires_grad for p in backbone.parameters())

optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
before = head.weight.detach().clone()
x, target = torch.randn(16, 4), torch.randint(2, (16,))

features = backbone(x)  # expect: not features.requires_grad and saved_bytes(features) == 0
loss = nn.functional.cross_entropy(head(features), target)
# expect: reaches(loss, head.weight) and not reaches(loss, backbone[0].weight)
loss.backward()
# expect: all(p.grad is None for p in backbone.parameters())
# expect: all(p.grad is not None for p in head.parameters())

optimizer.step()
# expect: not torch.equal(head.weight, before)
image = x.clone().requires_grad_()  # gradients still flow through frozen layers to their input
backbone(image).sum().backward()  # expect: image.grad is not None and backbone[0].weight.grad is None
print(f"loss {loss.item():.3f}")

import torch

weight = torch.randn(3, requires_grad=True) * 0.1
loss = (weight * torch.ones(3)).sum()
loss.backward()
print(weight.grad)

"""Membranes kept in the layers are never reset: the second backward meets the graph of the first batch.

https://github.com/jeshraghian/snntorch/issues/250
"""

import snntorch as snn
import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.rand(6, 16, 10), torch.randint(0, 3, (16,))
net = nn.Sequential(
    nn.Linear(10, 20),
    snn.Leaky(beta=0.9, init_hidden=True),
    nn.Linear(20, 3),
    snn.Leaky(beta=0.9, init_hidden=True, output=True),
)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for step in range(4):
    optimizer.zero_grad()
    membranes = [net(moment)[1] for moment in x]  # cause
    loss = nn.functional.cross_entropy(torch.stack(membranes).mean(dim=0), y)
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

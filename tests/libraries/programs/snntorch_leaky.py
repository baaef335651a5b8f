"""A spiking net over time steps, its membranes begun anew for each batch."""

import snntorch as snn
import torch
from snntorch import surrogate
from torch import nn

torch.manual_seed(0)
x, y = torch.rand(6, 16, 10), torch.randint(0, 3, (16,))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        gradient = surrogate.fast_sigmoid(slope=25)
        self.fc1, self.lif1 = nn.Linear(10, 20), snn.Leaky(beta=0.9, spike_grad=gradient)
        self.fc2, self.lif2 = nn.Linear(20, 3), snn.Leaky(beta=0.9, spike_grad=gradient, learn_beta=True)

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        recorded = []
        for step in x:
            spikes, mem1 = self.lif1(self.fc1(step), mem1)
            _, mem2 = self.lif2(self.fc2(spikes), mem2)
            recorded.append(mem2)
        return torch.stack(recorded)


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for step in range(4):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(x).mean(dim=0), y)
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

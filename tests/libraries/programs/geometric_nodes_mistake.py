"""EvolveGCN by hand: the evolved weight is wrapped in a new Parameter at each call, so the GRU never learns.

https://github.com/benedekrozemberczki/pytorch_geometric_temporal/issues/80
"""

import torch
import torch.nn.functional as F
from torch_geometric.nn import GCNConv

torch.manual_seed(0)
snapshots = [(torch.randn(20, 8), torch.randint(0, 20, (2, 60))) for _ in range(3)]
targets = torch.randint(0, 8, (20,))


class Evolving(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = GCNConv(8, 8, bias=False)
        self.gru = torch.nn.GRU(8, 8)
        self.initial_weight = torch.nn.Parameter(torch.randn(8, 8))

    def forward(self, snapshots):
        weight = self.initial_weight
        for x, edge_index in snapshots:
            weight = self.gru(weight[None])[0][0]
            self.conv.lin.weight = torch.nn.Parameter(weight)  # cause
            out = self.conv(x, edge_index)
        return F.log_softmax(out, dim=1)


model = Evolving()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(4):
    optimizer.zero_grad()
    loss = F.nll_loss(model(snapshots), targets)
    loss.backward()
    optimizer.step()
    print(epoch, repr(loss.item()))

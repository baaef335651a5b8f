"""A GCN and a GAT on a random graph with learned weights of its edges, as in PyTorch Geometric's introduction."""

import torch
import torch.nn.functional as F
from torch_geometric.data import Data
from torch_geometric.nn import GATConv, GCNConv

torch.manual_seed(0)
edge_index = torch.randint(0, 30, (2, 120))
data = Data(x=torch.randn(30, 8), edge_index=edge_index, y=torch.randint(0, 3, (30,)))
data.train_mask = torch.rand(30) < 0.6


class Net(torch.nn.Module):
    def __init__(self, edges):
        super().__init__()
        self.edge_weight = torch.nn.Parameter(torch.ones(edges))
        self.conv1 = GCNConv(8, 16)
        self.conv2 = GATConv(16, 3, heads=2, concat=False)

    def forward(self, data):
        x = self.conv1(data.x, data.edge_index, self.edge_weight.sigmoid())
        x = F.dropout(F.relu(x), training=self.training)
        return F.log_softmax(self.conv2(x, data.edge_index), dim=1)


model = Net(edge_index.size(1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
model.train()
for epoch in range(6):
    optimizer.zero_grad()
    out = model(data)
    loss = F.nll_loss(out[data.train_mask], data.y[data.train_mask])
    loss.backward()
    optimizer.step()
    print(epoch, repr(loss.item()))
model.eval()
with torch.no_grad():
    print((model(data).argmax(dim=1) == data.y)[~data.train_mask].sum().item())

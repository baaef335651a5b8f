"""Energy and forces of points by an equivariant net, both trained for."""

import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet

torch.manual_seed(0)
irreps_in = o3.Irreps("4x0e + 2x1o")
irreps_sh = o3.Irreps.spherical_harmonics(1)
product = o3.FullyConnectedTensorProduct(irreps_in, irreps_sh, "1x0e", shared_weights=False)
net = FullyConnectedNet([1, 16, product.weight_numel], torch.nn.functional.silu)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
positions = torch.randn(6, 3, requires_grad=True)
features = irreps_in.randn(6, -1)
source, target = (~torch.eye(6, dtype=torch.bool)).nonzero().T
wanted = torch.randn(6, 3)
for step in range(3):
    optimizer.zero_grad()
    vector = positions[source] - positions[target]
    harmonics = o3.spherical_harmonics(irreps_sh, vector, normalize=True)
    energy = product(features[source], harmonics, net(vector.norm(dim=1, keepdim=True))).sum()
    forces = -torch.autograd.grad(energy, positions, create_graph=True)[0]
    loss = (forces - wanted).pow(2).mean() + 0.01 * energy.pow(2)
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

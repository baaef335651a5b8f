"""Embeddings in the Poincare ball and an orthogonal matrix, each stepped on its manifold."""

import geoopt
import torch

torch.manual_seed(0)
ball = geoopt.PoincareBall(c=1.0)
embedding = geoopt.ManifoldParameter(torch.randn(10, 2) * 1e-2, manifold=ball)
rotation = geoopt.ManifoldParameter(torch.eye(2), manifold=geoopt.Stiefel())
optimizer = geoopt.optim.RiemannianAdam([embedding, rotation], lr=1e-2)
pairs = torch.randint(0, 10, (30, 2))
for step in range(5):
    optimizer.zero_grad()
    turned = embedding @ rotation
    loss = (ball.dist(embedding[pairs[:, 0]], turned[pairs[:, 1]]) - 0.5).pow(2).mean()
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))
print(repr(embedding.norm(dim=1).max().item()))

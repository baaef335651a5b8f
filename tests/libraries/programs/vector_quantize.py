"""A small VQ-VAE: straight-through codes, a commitment loss, codes updated by moving averages."""

import torch
from torch import nn
from vector_quantize_pytorch import VectorQuantize

torch.manual_seed(0)
encoder, decoder = nn.Linear(8, 4), nn.Linear(4, 8)
quantizer = VectorQuantize(dim=4, codebook_size=16, decay=0.8, commitment_weight=0.25)
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
x = torch.randn(12, 5, 8)
for step in range(5):
    optimizer.zero_grad()
    codes, indices, commitment = quantizer(encoder(x))
    loss = nn.functional.mse_loss(decoder(codes), x) + commitment.sum()
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()), indices.unique().numel())

"""The decoder is given codes looked up by index, not the quantizer's output: the encoder gets no gradient of it."""

import torch
from torch import nn
from vector_quantize_pytorch import VectorQuantize

torch.manual_seed(0)
encoder, decoder = nn.Linear(8, 4), nn.Linear(4, 8)
quantizer = VectorQuantize(dim=4, codebook_size=16, decay=0.8)
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
x = torch.randn(12, 5, 8)
for step in range(5):
    optimizer.zero_grad()
    _, indices, _ = quantizer(encoder(x))  # cause
    codes = quantizer.get_codes_from_indices(indices)  # cause
    loss = nn.functional.mse_loss(decoder(codes), x)
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

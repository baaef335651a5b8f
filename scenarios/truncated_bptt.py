"""Truncated backpropagation: detach the hidden state between two chunks of a sequence

Tags: rnn, detach, retain_graph, loop
"""

import torch
from torch import nn

torch.manual_seed(0)
cell = nn.RNNCell(2, 3)
optimizer = torch.optim.SGD(cell.parameters(), lr=0.1)
chunks = torch.randn(3, 4, 1, 2)  # three chunks of four steps

hidden = torch.zeros(1, 3)
hidden = cell(chunks[0, 0], hidden)
hidden.sum().backward()
try:
    cell(chunks[0, 1], hidden).sum().backward()  # goes on into a graph that was freed
except RuntimeError as error:
    print(str(error).split(".")[0])
# expect: raised(RuntimeError)

hidden = torch.zeros(1, 3)
for chunk in chunks:
    hidden = hidden.detach()  # expect: not hidden.requires_grad and hidden.is_leaf
    start = hidden
    for x in chunk:
        hidden = cell(x, hidden)
    loss = hidden.pow(2).sum()  # expect: reaches(loss, cell.weight_hh) and not reaches(loss, start)
    optimizer.zero_grad()
    loss.backward()  # expect: not raised(RuntimeError)
    optimizer.step()
print(f"last loss {loss.item():.4f}")

"""The gradients that leaves got of backward passes: their order, their numbers, and what was done with them."""

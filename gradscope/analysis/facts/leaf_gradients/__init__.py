"""Backward passes, and the gradients that leaves got of them."""

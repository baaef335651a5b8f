"""Backward passes: which nodes each walked, when it ran, and what became of the gradients that it gave."""

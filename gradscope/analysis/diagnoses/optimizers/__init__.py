"""Optimizers, their order beside backward passes, and what they move or miss."""

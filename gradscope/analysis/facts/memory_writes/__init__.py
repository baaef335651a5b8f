"""Writes into tensors, by whom, and what they reach."""

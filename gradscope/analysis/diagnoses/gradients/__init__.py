"""Gradients that are missing, zero, false or not finite."""

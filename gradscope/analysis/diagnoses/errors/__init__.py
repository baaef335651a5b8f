"""Errors of autograd, explained: what was refused, and the line that led to it."""

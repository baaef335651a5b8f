"""Memory that two tensors share, and writes that reach both."""

"""Why backward passes did not reach tensors."""

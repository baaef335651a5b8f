"""What an optimizer was given to train: parameters that it misses, holds in vain, or lost."""

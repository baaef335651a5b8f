"""Learning rates, and the schedulers that are to set them."""

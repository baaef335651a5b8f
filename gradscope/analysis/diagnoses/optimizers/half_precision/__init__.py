"""Loss scales, autocast, and weights in half precision."""

"""A round of training in the wrong order: backward passes, clipping, clearing, and steps."""

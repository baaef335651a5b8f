"""A program that repeats itself: periods that are alike are counted, and not kept, once there are many ops."""

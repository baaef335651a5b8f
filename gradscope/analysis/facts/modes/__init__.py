"""Grad modes and training modes: where they were set, and what ran in them."""

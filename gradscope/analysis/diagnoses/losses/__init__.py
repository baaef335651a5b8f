"""Losses that are formed of the wrong numbers."""

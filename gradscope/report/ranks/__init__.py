"""Renderers of the merged recordings of several processes."""

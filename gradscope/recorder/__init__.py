"""Observing a run: the only part of gradscope that imports torch, and only when it is used."""

"""Modules, checkpoints and hooks: how they were called."""

"""Hooks that change, write, keep, or never run."""

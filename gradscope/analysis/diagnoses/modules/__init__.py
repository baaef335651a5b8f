"""Modules: what is left out, frozen, tied, in the wrong mode or run again."""

"""Gradscope inside other tools: each part of it is imported by the tool that it is for."""

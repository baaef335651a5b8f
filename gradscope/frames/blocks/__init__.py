"""The text of a file: the blocks around a line, how often they run, and what decides it."""

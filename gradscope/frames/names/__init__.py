"""The text of a file: what its names, lists and attributes are given, and whether it is a copy."""

"""The text of a file: statements and names that come to nothing."""

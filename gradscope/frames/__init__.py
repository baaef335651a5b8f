"""Python's frames, and whose their files are; what the text of a file tells without running it is in the folders."""

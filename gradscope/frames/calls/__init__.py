"""The text of a file: its functions, who calls them with what, and what is read of what they give."""

"""The text of a file: how it makes modules and parameters, keeps them, and chooses among them."""

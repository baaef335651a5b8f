"""The text of a file: what its expressions are made of, hand on, and ask of gradients."""

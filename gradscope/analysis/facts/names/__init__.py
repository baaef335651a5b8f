"""What the program calls a tensor."""

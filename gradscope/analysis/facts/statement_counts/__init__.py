"""How often the statements of the program ran."""

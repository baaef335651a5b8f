"""How values came about: ways, cuts, graphs, terms of a loss."""

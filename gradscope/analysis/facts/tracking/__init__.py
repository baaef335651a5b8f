"""Where values came from, and where autograd lost track of them."""

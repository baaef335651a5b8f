"""What becomes of the weights at steps: decay, lost updates, dead layers, averages."""

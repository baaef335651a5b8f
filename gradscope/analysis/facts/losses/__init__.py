"""What losses are made of: probabilities, samples, formulas, broadcasts."""

"""Training: data, recipes, the loop, and the measurement of points."""

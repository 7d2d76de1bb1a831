"""The eight hardware units, each a function from sizes to exact counts."""

"""Quantised networks: the numbers that trainer, integer model and hardware share."""

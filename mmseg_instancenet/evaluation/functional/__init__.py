"""Computations of the metrics, as functions on arrays and masks."""

"""Metrics, one in each file; :mod:`.mask_metric` is the base of those that compare masks with an annotation file."""

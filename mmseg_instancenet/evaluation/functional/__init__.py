"""What the metrics compute, as functions on arrays and masks."""

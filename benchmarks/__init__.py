"""Speed and memory of the groupers and losses against the alternatives: ``python -m benchmarks --help``."""

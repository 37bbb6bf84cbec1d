"""Mutants that compute what the code computes, each with the reason: no test can find them."""

EQUIVALENT: dict[tuple[str, str, str, str, str, int], str] = {}
"""From the key of a mutant (file, function, line, before, after, number among equal ones) to the reason."""

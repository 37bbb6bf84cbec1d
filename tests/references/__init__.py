"""Plain implementations and small cases that tests compare with."""

"""Faults with real files and real processes: what was tried, how often, and what happened.

::

    make faults          # at most 30 minutes on two processors
    make faults-long     # fuzzing, mutated code and real sizes: hours

A module here tries one kind of fault. Its function ``rows`` returns a :class:`~faults.rows.Row` for each fault, and
docs/reliability.md is written from the rows; see :mod:`faults.__main__`.
"""

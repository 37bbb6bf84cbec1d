"""How many examples hypothesis draws: few and always the same ones in the suite, many new ones in `make faults`, or by hand::

INSTANCENET_EXAMPLES=1000 python -m pytest tests/properties -q
"""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = os.environ.get('INSTANCENET_EXAMPLES')

settings.register_profile(
    'properties',
    derandomize=EXAMPLES is None,
    max_examples=int(EXAMPLES or 4),
    deadline=None,  # the first call of a torch operator takes many times as long as the next
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
settings.load_profile('properties')

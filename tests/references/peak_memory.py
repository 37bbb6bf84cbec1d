"""How much memory a function needs."""

import itertools

from torch.profiler import ProfilerActivity, profile


def peak_memory(function):
    """Bytes allocated at once at most while ``function`` runs, temporaries of torch's operators included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == '[memory]']
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))

"""Functions of tools/analysis, tools/fit_scorer.py and tools/tune.py; nothing else imports them."""

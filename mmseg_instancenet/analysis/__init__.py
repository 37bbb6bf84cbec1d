"""What the tools of tools/analysis, tools/fit_scorer.py and tools/tune.py need; nothing else imports it."""

"""What the tools of tools/analysis and tools/fit_scorer.py need; nothing else imports it."""

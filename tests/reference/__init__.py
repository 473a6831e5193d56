"""Slow, plain restatements of the papers in loops: oracles that share no code with the package."""

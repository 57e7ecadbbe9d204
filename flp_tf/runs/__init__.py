"""Runs: configuration, recipes, the run directory, meta-training to the end, and loading.

`config.Config` says what a run is, `recipes` holds the values of published procedures,
`training.meta_train` makes a run and `run.load` reads one.
"""

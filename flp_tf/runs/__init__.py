"""Runs: configuration, recipes, the run directory, meta-training to the end, and loading.

`config.Config` describes a run, `recipes` has the values of whole procedures,
`training.meta_train` makes a run and `run.load` loads one.
"""

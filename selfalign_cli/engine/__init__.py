"""Training, checkpoints, evaluation and export: where recipes, data and models meet."""

"""From recipes and checkpoints to loaded models that encode."""

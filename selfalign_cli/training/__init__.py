"""The training loop and all that it keeps on disk."""

"""The terms of the training loss, one file each, and their weighted sum."""

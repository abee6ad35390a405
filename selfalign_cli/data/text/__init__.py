"""Captions and how they become token ids."""

"""Vectors to recalls, files and comparisons."""

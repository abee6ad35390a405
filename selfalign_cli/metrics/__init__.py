"""Ranks, recalls and reports."""

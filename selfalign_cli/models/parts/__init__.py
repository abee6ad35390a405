"""Layers that hosts, SelfAlign and losses are made of."""

"""Encoders, SelfAlign on top of them, and the caption generator."""

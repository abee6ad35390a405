"""Measurements on this machine: the program's code, plain code with the same results, and lower bounds."""

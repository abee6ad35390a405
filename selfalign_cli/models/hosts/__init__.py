"""The hosts: one file each."""

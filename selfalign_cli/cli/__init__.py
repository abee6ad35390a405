"""The command line: a thin skin over the other folders; all printing happens in `console`."""

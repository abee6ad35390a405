"""The command line: a thin skin over recipe, data and engine; all printing happens in `console`."""

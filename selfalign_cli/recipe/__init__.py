"""Recipes: what may be said (schema), what the presets say (compat), how a file is read (load)."""

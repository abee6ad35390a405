"""Region features of a user's own pictures."""

"""Search over a collection that is encoded once: the index folder, and the questions asked of it."""

"""`selfalign serve`: an index as a page to search in, and a JSON API beside it."""

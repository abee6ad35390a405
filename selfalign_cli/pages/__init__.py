"""Pages of HTML: one template engine, one look, pictures embedded; nothing is fetched by a page."""

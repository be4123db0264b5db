"""`relook serve`: an HTTP service over one gallery, and a page on top of it; and the page of `relook label`.

`app` puts the parts together: `guard` (who may call), `request_limits` (how much), `routes` (what is answered),
`engine` (searches, batched and bounded), `generations` (which state of the index), `pictures` and `thumbnails` (photos,
re-encoded). `page/` holds the page: HTML, CSS and JavaScript modules as they are served.
"""

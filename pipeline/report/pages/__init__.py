"""HTML pages: one module per page, beside it the template in `templates/` of the same name.

Written by `--html` and by the demo. `page` renders a template, `pictures` makes its thumbnails. A page needs no server
and nothing from the network; the few lines of script in it only add to what works without them.
"""

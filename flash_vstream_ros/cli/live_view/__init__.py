"""The web page of `flash-vstream-ros web`: its server, the feed of a node's status and memory, and the page's files.

May import client, ros, engine and the modules of cli. Needs the extra `web`, but no torch. A further section of the
page is a module in `page/` that `page.js` starts, an event that `feed.py` posts to the board, and a route in `app.py`.
"""

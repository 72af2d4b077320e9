"""Stand-in for execd in tests and the demo: the part of its HTTP API that the official clients use, on port 44772.

Not hardened and not meant to be: it runs inside throw-away test sandboxes. Output goes out as server-sent events, one
JSON object per event; `/proxy/{port}/…` is a byte relay, so streams and WebSockets pass through it. The image's one
file `/execd` is this folder as a zip archive with a `#!` line.
"""

import sys

import kernel

if sys.argv[1:] == ["kernel"]:
    kernel.main()
else:
    import commands  # noqa: F401  each of these adds its routes
    import files  # noqa: F401
    import health  # noqa: F401
    import identity  # noqa: F401
    import interpreter  # noqa: F401
    import isolated  # noqa: F401
    import sessions  # noqa: F401
    import web

    web.Server(("0.0.0.0", web.PORT), web.Handler).serve_forever()

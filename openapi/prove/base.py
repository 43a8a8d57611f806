"""Prints a document as it is under one of its base URLs.

    base.py DOCUMENT BASE

An operation that names servers of its own is there only under those: the sandbox has some that a live base URL has not.
"""

import json
import sys

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}

path, base = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    document = json.load(file)
for path in list(document["paths"]):
    item = document["paths"][path]
    for method in METHODS & item.keys():
        servers = item[method].pop("servers", document["servers"])
        if not any(server["url"] == base for server in servers):
            del item[method]
    if not METHODS & item.keys():
        del document["paths"][path]
document["servers"] = [{"url": base}]
json.dump(document, sys.stdout)

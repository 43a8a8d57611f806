#!/usr/bin/env python3
"""Writes a NoCloud seed: seed.py OUT NAME=FILE...

An ISO 9660 file system with a Joliet tree, volume id "cidata", a flat root folder. It is what the server writes too; this is
the small independent writer that image/check uses, so that the guest is not tested with the server's own idea of the format.
"""

import struct
import sys

SECTOR = 2048
EPOCH = bytes([124, 1, 1, 0, 0, 0, 0])  # 2024-01-01 00:00:00 UTC


def both16(n):
    return struct.pack("<H", n) + struct.pack(">H", n)


def both32(n):
    return struct.pack("<I", n) + struct.pack(">I", n)


def record(name, sector, size, folder):
    body = b"\0" + both32(sector) + both32(size) + EPOCH + bytes([2 if folder else 0, 0, 0]) + both16(1)
    body += bytes([len(name)]) + name + (b"" if len(name) % 2 else b"\0")
    return bytes([len(body) + 1]) + body


def folder(sector, entries):
    out = record(b"\0", sector, SECTOR, True) + record(b"\1", sector, SECTOR, True)
    for name, start, size in sorted(entries):
        out += record(name, start, size, False)
    assert len(out) <= SECTOR
    return out.ljust(SECTOR, b"\0")


def descriptor(kind, label, escape, sectors, table, root, text):
    wide = kind == 2

    def field(value, width):
        return value.encode("utf-16-be").ljust(width, b"\0 "[0:2])[:width] if wide and value else (
            (b"\0 " * width)[:width] if wide else value.encode().ljust(width))

    out = bytes([kind]) + b"CD001\1\0" + field("", 32)
    volume = label.encode("utf-16-be") if wide else label.encode()
    pad = b"\0 " if wide else b" "
    out += volume + pad * ((32 - len(volume)) // len(pad))
    out += b"\0" * 8 + both32(sectors) + escape.ljust(32, b"\0") + both16(1) + both16(1) + both16(SECTOR)
    out += both32(10) + struct.pack("<II", table, 0) + struct.pack(">II", table + 1, 0)
    out += record(b"\0", root, SECTOR, True)
    for width in (128, 128, 128, 128, 37, 37, 37):
        out += field("", width)
    never = b"0" * 16 + b"\0"
    out += never * 4 + b"\1\0"
    return out.ljust(SECTOR, b"\0")


def image(files, label="cidata"):
    # 16 system sectors, two descriptors and the end, then a pair of path tables and a root folder for each tree.
    tables, wide_tables, root, wide_root, data = 19, 21, 23, 24, 25
    plain, wide, blob = [], [], b""
    for name, content in sorted(files.items()):
        start = data + len(blob) // SECTOR
        plain.append((name.upper().encode() + b";1", start, len(content)))
        wide.append((name.encode("utf-16-be"), start, len(content)))
        blob += content.ljust(-(-len(content) // SECTOR) * SECTOR, b"\0")
    sectors = data + len(blob) // SECTOR
    out = b"\0" * (16 * SECTOR)
    out += descriptor(1, label, b"", sectors, tables, root, None)
    out += descriptor(2, label, b"%/E", sectors, wide_tables, wide_root, None)
    out += (b"\xff" + b"CD001\1").ljust(SECTOR, b"\0")
    for where in (root, wide_root):
        for order in ("<", ">"):
            out += (bytes([1, 0]) + struct.pack(order + "IH", where, 1) + b"\0\0").ljust(SECTOR, b"\0")
    out += folder(root, plain) + folder(wide_root, wide) + blob
    # Some readers look a little past the end.
    return out.ljust(max(len(out), 64 * SECTOR), b"\0")


if __name__ == "__main__":
    names = dict(argument.split("=", 1) for argument in sys.argv[2:])
    contents = {}
    for key, path in names.items():
        with open(path, "rb") as source:
            contents[key] = source.read()
    with open(sys.argv[1], "wb") as target:
        target.write(image(contents))

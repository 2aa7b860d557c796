"""The fields of a protocol buffer's message, with nothing but Python: what the scripts that read ONNX files share."""

import sys


def fields(data):
    """(number, value) of each field of a protobuf message: an int, or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            yield number, varint()
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            yield number, data[at : at + size]
            at += size
        elif kind == 2:
            size = varint()
            yield number, data[at : at + size]
            at += size
        else:
            sys.exit(f"no ONNX file: a field of kind {kind}")

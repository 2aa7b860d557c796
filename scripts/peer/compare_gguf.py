"""GGUF files of ours beside those that were written with the format's own library, read by that library: the same keys with the same
values, the same tensors by name, shape and value. Usage: compare_gguf.py KEYS_THAT_MAY_DIFFER OURS=THEIRS …"""

import sys

import numpy as np
from gguf import GGUFReader, dequantize


def keys(reader):
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}


def tensors(reader):
    return {t.name: (tuple(int(n) for n in t.shape), dequantize(t.data, t.tensor_type)) for t in reader.tensors}


def same(ours, theirs):
    if isinstance(ours, float):
        return abs(ours - theirs) <= 1e-6 * abs(theirs)
    if isinstance(ours, list) and ours and isinstance(ours[0], float):
        return np.allclose(ours, theirs)
    return ours == theirs


def main():
    free = sys.argv[1].split(",")
    for pair in sys.argv[2:]:
        ours, theirs = (GGUFReader(path) for path in pair.split("="))
        a, b = keys(ours), keys(theirs)
        named = lambda key: any(key == name or (name.startswith(".") and key.endswith(name)) for name in free)
        wrong = [key for key in b if not named(key) and (key not in a or not same(a[key], b[key]))]
        assert not wrong, (pair, [(key, a.get(key), b[key]) for key in wrong])
        more = sorted(key for key in a if key not in b and not named(key))
        x, y = tensors(ours), tensors(theirs)
        assert set(x) == set(y), (pair, set(x) ^ set(y))
        for name, (shape, values) in x.items():
            assert shape == y[name][0], (pair, name, shape, y[name][0])
            assert np.allclose(values, y[name][1], rtol=1e-6, atol=0), (pair, name)
        print(pair.split("=")[1].rsplit("/", 1)[1], len(b), "keys,", len(x), "tensors; besides:", ", ".join(more))


main()

"""Makes perceiver.safetensors beside this file: a small perceiver resampler with random weights, an input and its output.

The forward pass is written out in numpy (f64) from the formulas of open_flamingo (open_flamingo/src/helpers.py:
PerceiverAttention, FeedForward, PerceiverResampler); torch is not needed. Run: python make.py (numpy, safetensors).
"""
import math
import os

import numpy as np
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
B, P, D, N, LAYERS, HEADS, HEAD_DIM, OUT = 2, 7, 12, 5, 2, 3, 8, 10
INNER = HEADS * HEAD_DIM
erf = np.vectorize(math.erf)
gelu = lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))


def weights(rng):
    draw = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)
    w = {"perceiver.latents": rng.normal(0, 1, (N, D)).astype(np.float32), "fc1.weight": draw(OUT, D), "fc1.bias": draw(OUT)}
    norms, linears = ["perceiver.norm"], {}
    for i in range(LAYERS):
        at = f"perceiver.layers.{i}"
        norms += [f"{at}.0.norm_media", f"{at}.0.norm_latents", f"{at}.1.0"]
        linears |= {f"{at}.0.to_q": (INNER, D), f"{at}.0.to_kv": (2 * INNER, D), f"{at}.0.to_out": (D, INNER),
                    f"{at}.1.1": (4 * D, D), f"{at}.1.3": (D, 4 * D)}
    for name in norms:
        w[f"{name}.weight"], w[f"{name}.bias"] = 1 + draw(D), draw(D)
    return w | {f"{name}.weight": draw(*shape) for name, shape in linears.items()}


def norm(x, w, name):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x, w, name):
    return x @ w[f"{name}.weight"].astype(np.float64).T


def split(x):
    return x.reshape(*x.shape[:2], HEADS, HEAD_DIM).transpose(0, 2, 1, 3)


def attend(x, latents, w, at):
    x, latents = norm(x, w, f"{at}.norm_media"), norm(latents, w, f"{at}.norm_latents")
    q = linear(latents, w, f"{at}.to_q")
    k, v = np.split(linear(np.concatenate([x, latents], 1), w, f"{at}.to_kv"), 2, -1)
    s = split(q) @ split(k).transpose(0, 1, 3, 2) * HEAD_DIM**-0.5
    e = np.exp(s - s.max(-1, keepdims=True))
    out = (e / e.sum(-1, keepdims=True)) @ split(v)
    return linear(out.transpose(0, 2, 1, 3).reshape(*q.shape), w, f"{at}.to_out")


def resample(x, w):
    latents = np.repeat(w["perceiver.latents"][None].astype(np.float64), len(x), 0)
    for i in range(LAYERS):
        at = f"perceiver.layers.{i}"
        latents = latents + attend(x, latents, w, f"{at}.0")
        hidden = gelu(linear(norm(latents, w, f"{at}.1.0"), w, f"{at}.1.1"))
        latents = latents + linear(hidden, w, f"{at}.1.3")
    return linear(norm(latents, w, "perceiver.norm"), w, "fc1") + w["fc1.bias"]


if __name__ == "__main__":
    rng = np.random.default_rng(3)
    w = weights(rng)
    x = rng.normal(0, 1, (B, P, D)).astype(np.float32)
    w |= {"input": x, "output": resample(x.astype(np.float64), w).astype(np.float32)}
    save_file(w, os.path.join(HERE, "perceiver.safetensors"))

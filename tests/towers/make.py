"""Makes the fixtures beside this file: tiny CLIP, SigLIP and DINOv2 image towers with random weights, and their outputs.

The forward passes are written out in numpy (f64) from the formulas of transformers 5.23 (modeling_clip.py,
modeling_siglip.py, modeling_dinov2.py); torch is not needed. Run: python make.py (numpy, safetensors).
"""
import json
import math
import os

import numpy as np
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
D, I, L, HEADS, IMAGE, PATCH, BATCH = 16, 24, 2, 2, 12, 4, 2
GRID = IMAGE // PATCH
erf = np.vectorize(math.erf)
ACT = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_pytorch_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
}


def draw(rng, *shape):
    return rng.normal(0, 0.3, shape).astype(np.float32)


def norm(x, w, name, eps):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x, w, name):
    return x @ w[f"{name}.weight"].astype(np.float64).T + w[f"{name}.bias"]


def patches(pixels, weight, bias):
    out = np.zeros((pixels.shape[0], GRID_OF(pixels) ** 2, D))
    g = GRID_OF(pixels)
    for r in range(g):
        for c in range(g):
            cut = pixels[:, :, r * PATCH:(r + 1) * PATCH, c * PATCH:(c + 1) * PATCH]
            out[:, r * g + c] = np.einsum("bchw,dchw->bd", cut.astype(np.float64), weight.astype(np.float64))
    return out + bias


def GRID_OF(pixels):
    return pixels.shape[2] // PATCH


def attend(q, k, v):
    b, p, _ = q.shape
    split = lambda t: t.reshape(b, p, HEADS, D // HEADS).transpose(0, 2, 1, 3)
    q, k, v = split(q), split(k), split(v)
    s = q @ k.transpose(0, 1, 3, 2) / math.sqrt(D // HEADS)
    e = np.exp(s - s.max(-1, keepdims=True))
    return ((e / e.sum(-1, keepdims=True)) @ v).transpose(0, 2, 1, 3).reshape(b, p, D)


def layers(x, w, path, norms, names, act, eps, scales=None):
    states = [x]
    for i in range(L):
        at = f"{path}.{i}"
        n = norm(x, w, f"{at}.{norms[0]}", eps)
        y = linear(attend(*(linear(n, w, f"{at}.{name}") for name in names[:3])), w, f"{at}.{names[3]}")
        x = x + y * (w[f"{at}.{scales[0]}"] if scales else 1)
        n = norm(x, w, f"{at}.{norms[1]}", eps)
        y = linear(ACT[act](linear(n, w, f"{at}.mlp.fc1")), w, f"{at}.mlp.fc2")
        x = x + y * (w[f"{at}.{scales[1]}"] if scales else 1)
        states.append(x)
    return states


def layer_weights(rng, path, norms, names, scales=None):
    w = {}
    for i in range(L):
        at = f"{path}.{i}"
        for n in norms:
            w[f"{at}.{n}.weight"], w[f"{at}.{n}.bias"] = 1 + draw(rng, D), draw(rng, D)
        for n, o, k in [*((n, D, D) for n in names), ("mlp.fc1", I, D), ("mlp.fc2", D, I)]:
            w[f"{at}.{n}.weight"], w[f"{at}.{n}.bias"] = draw(rng, o, k), draw(rng, o)
        for s in scales or []:
            w[f"{at}.{s}"] = draw(rng, D)
    return w


def cubic(place, old, new):
    a, center = -0.75, (place + 0.5) * old / new - 0.5
    first = math.floor(center)
    weights = []
    for k in range(first - 1, first + 3):
        x = abs(center - k)
        inside = ((a + 2) * x - (a + 3)) * x * x + 1
        outside = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        weights.append((min(max(k, 0), old - 1), inside if x <= 1 else outside))
    return weights


def resample(table, old, new):
    """torch interpolate(mode="bicubic", align_corners=False) on a grid of vectors."""
    grid = table.reshape(old, old, D).astype(np.float64)
    out = np.zeros((new, new, D))
    for r in range(new):
        for c in range(new):
            for y, wy in cubic(r, old, new):
                for x, wx in cubic(c, old, new):
                    out[r, c] += wy * wx * grid[y, x]
    return out.reshape(new * new, D)


def save(name, config, weights, expected):
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    tidy = lambda t: {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in t.items()}
    save_file(tidy(weights), os.path.join(folder, "model.safetensors"))
    save_file(tidy(expected), os.path.join(folder, "expected.safetensors"))


def outputs(states, last):
    return {**{f"hidden_{i}": s for i, s in enumerate(states)}, "last_hidden_state": last}


HF = (["layer_norm1", "layer_norm2"], [f"self_attn.{n}_proj" for n in ("q", "k", "v", "out")])
SIZES = {"hidden_size": D, "intermediate_size": I, "num_hidden_layers": L, "num_attention_heads": HEADS,
         "image_size": IMAGE, "patch_size": PATCH, "num_channels": 3}


def clip(rng, pixels):
    path = "encoder.layers"
    w = layer_weights(rng, path, *HF)
    w["embeddings.class_embedding"] = draw(rng, D)
    w["embeddings.patch_embedding.weight"] = draw(rng, D, 3, PATCH, PATCH)
    w["embeddings.position_embedding.weight"] = draw(rng, 1 + GRID**2, D)
    for n in ("pre_layrnorm", "post_layernorm"):
        w[f"{n}.weight"], w[f"{n}.bias"] = 1 + draw(rng, D), draw(rng, D)
    x = patches(pixels, w["embeddings.patch_embedding.weight"], 0)
    x = np.concatenate([np.broadcast_to(w["embeddings.class_embedding"], (BATCH, 1, D)), x], 1)
    x = norm(x + w["embeddings.position_embedding.weight"], w, "pre_layrnorm", 1e-5)
    states = layers(x, w, path, *HF, "quick_gelu", 1e-5)
    weights = {f"vision_model.{k}": v for k, v in w.items()} | {"logit_scale": np.float32([2.6])}
    save("clip", {"model_type": "clip", "vision_config": {**SIZES, "hidden_act": "quick_gelu"}}, weights,
         {"pixel_values": pixels, **outputs(states, states[-1])})


def siglip(rng, pixels):
    path = "encoder.layers"
    w = layer_weights(rng, path, *HF)
    w["embeddings.patch_embedding.weight"] = draw(rng, D, 3, PATCH, PATCH)
    w["embeddings.patch_embedding.bias"] = draw(rng, D)
    w["embeddings.position_embedding.weight"] = draw(rng, GRID**2, D)
    w["post_layernorm.weight"], w["post_layernorm.bias"] = 1 + draw(rng, D), draw(rng, D)
    x = patches(pixels, w["embeddings.patch_embedding.weight"], w["embeddings.patch_embedding.bias"])
    x = x + w["embeddings.position_embedding.weight"]
    states = layers(x, w, path, *HF, "gelu_pytorch_tanh", 1e-6)
    save("siglip", {"model_type": "siglip_vision_model", **SIZES}, {f"vision_model.{k}": v for k, v in w.items()},
         {"pixel_values": pixels, **outputs(states, norm(states[-1], w, "post_layernorm", 1e-6))})


def dinov2(rng, pixels):
    path, scales = "encoder.layer", ["layer_scale1.lambda1", "layer_scale2.lambda1"]
    names = [f"attention.attention.{n}" for n in ("query", "key", "value")] + ["attention.output.dense"]
    w = layer_weights(rng, path, ["norm1", "norm2"], names, scales)
    w["embeddings.cls_token"], w["embeddings.mask_token"] = draw(rng, 1, 1, D), draw(rng, 1, D)
    w["embeddings.patch_embeddings.projection.weight"] = draw(rng, D, 3, PATCH, PATCH)
    w["embeddings.patch_embeddings.projection.bias"] = draw(rng, D)
    stored = 5  # the table is for 5 x 5 patches, the picture has 3 x 3: it must be resampled
    w["embeddings.position_embeddings"] = draw(rng, 1, 1 + stored**2, D)
    w["layernorm.weight"], w["layernorm.bias"] = 1 + draw(rng, D), draw(rng, D)
    x = patches(pixels, w["embeddings.patch_embeddings.projection.weight"],
                w["embeddings.patch_embeddings.projection.bias"])
    x = np.concatenate([np.broadcast_to(w["embeddings.cls_token"], (BATCH, 1, D)), x], 1)
    table = w["embeddings.position_embeddings"][0]
    x = x + np.concatenate([table[:1], resample(table[1:], stored, GRID)])
    states = layers(x, w, path, ["norm1", "norm2"], names, "gelu", 1e-6, scales)
    config = {"model_type": "dinov2", **SIZES, "image_size": stored * PATCH}
    save("dinov2", config, w, {"pixel_values": pixels, **outputs(states, norm(states[-1], w, "layernorm", 1e-6))})


if __name__ == "__main__":
    rng = np.random.default_rng(20260)
    for make in (clip, siglip, dinov2):
        make(rng, rng.normal(0, 1, (BATCH, 3, IMAGE, IMAGE)).astype(np.float32))

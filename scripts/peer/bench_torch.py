#!/usr/bin/env python3
"""PyTorch peer benchmark, on the CPU or on what GLASSBOX_DEVICE names. Prints ONE json to stdout.
  python bench_torch.py [--config cfg.json] [--sections vit,train,generate,phi3full]   (REF_TF=4|5)
Each section/case runs in its own process (ru_maxrss is then that case's peak).  Config keys and defaults: DEFAULT below."""
import argparse, json, os, resource, statistics, subprocess, sys, time
DEFAULT = {
  "threads": 2, "dtype": "float32", "seed": 0, "reps": 5, "warmup": 1,
  "vit": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
          "image_size": 224, "patch_size": 16, "layer_norm_eps": 1e-12},
  "llm": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 12,
          "intermediate_size": 2048, "vocab_size": 32064, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
          "bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000, "sliding_window": None},
  "projector": "mlp", "vision_feature": "hidden_states[-1]",
  "lora": {"llm": {"r": 64, "alpha": 128}, "vit": {"r": 8, "alpha": 16}},
  "n_start": 2, "n_end": 2, "n_query": 6, "caption_tokens": 22,          # 197 + (2+2+6+22 = 32 text tokens) = 229
  "prefix_schedule": [4, 8, 12, 16, 20],                                   # predict_at_index of successive steps (blog: uniform 1..T-2)
  "adamw": {"lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
  "vit_batches": [1, 8], "train_batches": [1, 4], "new_tokens": 64,
  "gen_reps": 2, "new_tokens_blog": None,   # None: = new_tokens
  "phi3full": {"prefill": 215, "decode": 6, "dtype": "bfloat16", "dir": "phi3full_random", "keep": False,
     "llm": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32,
             "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096,
             "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
             "sliding_window": 2047, "bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000}},
}


def rss_mb():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def device():
    """What GLASSBOX_DEVICE names, as for the other side: cpu, cuda or cuda:1."""
    return os.environ.get("GLASSBOX_DEVICE") or "cpu"


def finish():
    """A GPU works on behind the program's back."""
    if device() != "cpu":
        import torch
        torch.cuda.synchronize()


def timed(fn, reps, warmup):
    for i in range(warmup):
        fn(i)
    finish()
    ts, cs = [], []
    for i in range(reps):
        t, c = time.perf_counter(), time.process_time(); fn(i); finish(); ts.append(time.perf_counter() - t); cs.append(time.process_time() - c)
    # cpu_median_s: process CPU seconds (all threads): the number to trust when other jobs share the cores (use threads=1)
    return {"median_s": round(statistics.median(ts), 4), "min_s": round(min(ts), 4), "max_s": round(max(ts), 4),
            "cpu_median_s": round(statistics.median(cs), 4), "cpu_min_s": round(min(cs), 4), "reps": reps}


def case(cfg, section, arg):
    t_imp = time.perf_counter()
    import vlm_reference as R
    import torch
    torch.set_num_threads(cfg["threads"])
    if device() != "cpu":
        torch.set_default_device(device())
    dt = getattr(torch, cfg["dtype"])
    base = rss_mb()
    if section == "vit":
        torch.manual_seed(cfg["seed"])
        m = R.ViTModel(R.ViTConfig(**cfg["vit"]), add_pooling_layer=False).to(dt).eval()
        x = torch.randn(arg, 3, cfg["vit"]["image_size"], cfg["vit"]["image_size"], dtype=dt)
        with torch.inference_mode():
            r = timed(lambda i: m(pixel_values=x), cfg["reps"], cfg["warmup"])
        r["images_per_s"] = round(arg / r["median_s"], 3); r["images_per_cpu_s"] = round(arg / r["cpu_median_s"], 3)
    elif section == "train":
        b, mode = arg
        v = R.build_vlm(cfg, dtype=dt, seed=cfg["seed"]).train()
        tr = [p for p in v.parameters() if p.requires_grad]
        opt = torch.optim.AdamW(tr, lr=cfg["adamw"]["lr"], betas=tuple(cfg["adamw"]["betas"]), eps=cfg["adamw"]["eps"],
                                weight_decay=cfg["adamw"]["weight_decay"])
        x = torch.randn(b, 3, cfg["vit"]["image_size"], cfg["vit"]["image_size"], dtype=dt)
        ids = torch.randint(3, 32000, (b, cfg["caption_tokens"]))
        losses = []

        def step(i):
            if mode == "random_prefix":
                p = cfg["prefix_schedule"][i % len(cfg["prefix_schedule"])]
                loss = v(x, ids, predict_at_index=p)["loss"]
            else:
                loss = v.full_sequence_loss(x, ids)[0]
            loss.backward(); opt.step(); opt.zero_grad(set_to_none=True)
            losses.append(round(float(loss.detach()), 4))
        r = timed(step, cfg["reps"], cfg["warmup"])
        r.update(steps_per_s=round(1 / r["median_s"], 4), steps_per_cpu_s=round(1 / r["cpu_median_s"], 4), images_per_s=round(b / r["median_s"], 4), losses=losses,
                 trainable_params=sum(p.numel() for p in tr), total_params=sum(p.numel() for p in v.parameters()))
    elif section == "generate":
        v = R.build_vlm({**cfg, "lora": None}, dtype=dt, seed=cfg["seed"]).eval()
        n = cfg["new_tokens"]
        if arg == "blog_full_reforward" and cfg["new_tokens_blog"]:
            n = cfg["new_tokens_blog"]
        x = torch.randn(1, 3, cfg["vit"]["image_size"], cfg["vit"]["image_size"], dtype=dt)
        out = {}
        f = {"blog_full_reforward": lambda i: out.__setitem__("ids", v.generate(x, n)[0]),
             "hf_generate_kv": lambda i: out.__setitem__("ids", v.generate_hf(x, n)),
             "kv_manual": lambda i: out.__setitem__("ids", v.generate_kv(x, n)[0])}[arg]
        with torch.inference_mode():
            if arg != "blog_full_reforward":
                f(0)
        r = timed(f, cfg["gen_reps"], 0)
        r.update(new_tokens=n, tokens_per_s=round(n / r["median_s"], 3), tokens_per_cpu_s=round(n / r["cpu_median_s"], 3), ids_head=out["ids"][0][:8].tolist(), note="image encode + prefill included")
    elif section == "phi3full":
        from transformers import Phi3Config, Phi3ForCausalLM
        c, d = cfg["phi3full"], cfg["phi3full"]["dir"]
        pdt = getattr(torch, c["dtype"])
        t = time.perf_counter()
        m = Phi3ForCausalLM.from_pretrained(d, dtype=pdt, low_cpu_mem_usage=True).eval().to(device())
        finish()
        load = time.perf_counter() - t
        ids = torch.randint(3, 32000, (1, c["prefill"]))
        with torch.inference_mode():
            t = time.perf_counter(); o = m(input_ids=ids, use_cache=True, logits_to_keep=1); finish(); pre = time.perf_counter() - t
            ts, past, nxt = [], o.past_key_values, o.logits[:, -1].argmax(-1, keepdim=True)
            for _ in range(c["decode"]):
                t = time.perf_counter(); o = m(input_ids=nxt, past_key_values=past, use_cache=True, logits_to_keep=1)
                nxt = o.logits[:, -1].argmax(-1, keepdim=True); finish(); ts.append(time.perf_counter() - t)
        r = {"load_s": round(load, 2), "load_plus_first_prefill_s": round(load + pre, 2), "prefill_first_s": round(pre, 4), "prefill_tokens": c["prefill"], "prefill_tok_per_s": round(c["prefill"] / pre, 2),
             "decode_median_s": round(statistics.median(ts), 4), "decode_tok_per_s": round(1 / statistics.median(ts), 3), "decode_n": len(ts)}
    r["peak_rss_mb"], r["rss_after_import_mb"] = rss_mb(), base
    import transformers
    r["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    return r


def write_phi3(cfg):
    """random bf16 weights, HF names, 2 shards + index, written without building the model"""
    import torch
    from safetensors.torch import save_file
    c, d = cfg["phi3full"]["llm"], cfg["phi3full"]["dir"]
    if os.path.exists(d + "/model.safetensors.index.json"):
        return
    os.makedirs(d, exist_ok=True)
    h, f, v, L = c["hidden_size"], c["intermediate_size"], c["vocab_size"], c["num_hidden_layers"]
    hd = h // c["num_attention_heads"]; q = h + 2 * c["num_key_value_heads"] * hd
    g = torch.Generator().manual_seed(0)
    pool = (torch.randn(1 << 24, generator=g) * 0.02).to(torch.bfloat16)     # tiled: cheap to make, still full-rank noise

    def w(*s):
        n = 1
        for a in s: n *= a
        o = int(torch.randint(0, 1 << 20, (1,), generator=g))
        return pool.roll(o).repeat((n + pool.numel() - 1) // pool.numel())[:n].reshape(*s).contiguous()
    wm, shards = {}, [["model.embed_tokens.weight"], ["model.norm.weight", "lm_head.weight"]]
    for i in range(L):
        k = 0 if i < L * 2 // 3 else 1
        shards[k] += [f"model.layers.{i}.{n}.weight" for n in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm")]
    shp = {"qkv_proj": (q, h), "o_proj": (h, h), "gate_up_proj": (2 * f, h), "down_proj": (h, f), "embed_tokens": (v, h), "lm_head": (v, h)}
    for k, names in enumerate(shards):
        fn = f"model-0000{k+1}-of-00002.safetensors"; T = {}
        for n in names:
            key = n.split(".")[-2]
            T[n] = w(*shp[key]) if key in shp else torch.ones(h, dtype=torch.bfloat16)
            wm[n] = fn
        save_file(T, f"{d}/{fn}", metadata={"format": "pt"}); del T
    json.dump({"metadata": {"total_size": 0}, "weight_map": wm}, open(d + "/model.safetensors.index.json", "w"))
    json.dump({**c, "model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "torch_dtype": "bfloat16", "hidden_act": "silu",
               "tie_word_embeddings": False, "rope_scaling": None}, open(d + "/config.json", "w"), indent=1)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--config"); ap.add_argument("--sections", default="vit,train,generate")
    ap.add_argument("--case"); ap.add_argument("--out")
    a = ap.parse_args()
    cfg = dict(DEFAULT)
    if a.config:
        cfg.update(json.load(open(a.config)))
    if a.case:
        s, arg = json.loads(a.case)
        if s == "write_phi3":
            write_phi3(cfg); print("@@{}"); return
        print("@@" + json.dumps(case(cfg, s, arg))); return
    res = {"config": cfg, "cpu": open("/proc/cpuinfo").read().split("model name")[1].split("\n")[0].strip("\t: "), "load_avg_start": os.getloadavg(), "results": {}}
    todo = []
    for s in a.sections.split(","):
        todo += {"vit": [(s, b) for b in cfg["vit_batches"]],
                 "train": [(s, [b, m]) for b in cfg["train_batches"] for m in ("random_prefix", "full_sequence")],
                 "generate": [(s, m) for m in ("hf_generate_kv", "kv_manual", "blog_full_reforward")],
                 "phi3full": [("write_phi3", 0), (s, "run")]}[s]
    for s, arg in todo:
        cmd = [sys.executable, os.path.abspath(__file__), "--case", json.dumps([s, arg])] + (["--config", os.path.abspath(a.config)] if a.config else [])
        env = {**os.environ, "OMP_NUM_THREADS": str(cfg["threads"]), "MKL_NUM_THREADS": str(cfg["threads"])}
        p = subprocess.run(cmd, capture_output=True, text=True, env=env, cwd=os.path.dirname(os.path.abspath(__file__)))
        line = [l for l in p.stdout.splitlines() if l.startswith("@@")]
        r = json.loads(line[-1][2:]) if line else {"error": (p.stderr or p.stdout)[-800:], "rc": p.returncode}
        r["load_avg"] = [round(x, 2) for x in os.getloadavg()]
        res["results"][f"{s}:{json.dumps(arg)}"] = r
        print(s, arg, {k: v for k, v in r.items() if k != "versions"}, file=sys.stderr, flush=True)
    txt = json.dumps(res)
    print(txt)
    if a.out:
        open(a.out, "w").write(json.dumps(res, indent=1))


if __name__ == "__main__":
    main()

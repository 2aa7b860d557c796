"""A step of QLoRA by PEFT and bitsandbytes on the CPU, at the sizes of Phi-3-mini: the peer of

    cargo run --release -p glassbox-prelude --example small_weights -- --part train

    pip install torch transformers peft bitsandbytes
    python scripts/peer/qlora_step.py [--layers 2] [--rounds 3]

The blog's LoRA (rank 64 on gate_up_proj and down_proj) over NF4 with double quantization, 220 tokens, f32 between layers; forward and
backward pass of models of 1 and more layers, so that their difference is what a layer takes.
"""

import argparse
import pathlib
import time

import bitsandbytes as bnb
import peft
import torch
import transformers

TOKENS = 220


def resident(name):
    """Megabytes, as the system counts them."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def model_of(layers):
    config = transformers.Phi3Config(num_hidden_layers=layers, pad_token_id=0)
    model = transformers.Phi3ForCausalLM(config)
    for module in list(model.modules()):
        for name, linear in list(module.named_children()):
            if isinstance(linear, torch.nn.Linear):
                held = bnb.nn.Linear4bit(
                    linear.in_features, linear.out_features, bias=False, compute_dtype=torch.float32, quant_type="nf4", compress_statistics=True
                )
                held.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True)
                setattr(module, name, held.to("cpu"))
    lora = peft.LoraConfig(r=64, lora_alpha=32, lora_dropout=0.0, target_modules=["gate_up_proj", "down_proj"])
    return peft.get_peft_model(model, lora)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print("torch", torch.__version__, "bitsandbytes", bnb.__version__, "peft", peft.__version__, "threads", torch.get_num_threads())
    ids = torch.tensor([[100 + i * 37 % 30_000 for i in range(TOKENS)]])
    for layers in [1, max(2, args.layers)]:
        model = model_of(layers)
        for _ in range(args.rounds):
            pathlib.Path("/proc/self/clear_refs").write_text("5")  # the highest is counted from here
            before, begun = resident("VmRSS"), time.perf_counter()
            output = model(input_ids=ids, logits_to_keep=1)
            output.logits.float().square().mean().backward()
            took = time.perf_counter() - begun
            print(f"NF4, {layers} layers: forward and backward {took:.2f} s, {resident('VmHWM') - before:.0f} MB beyond what was held")
            missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
            assert not missing, missing
            model.zero_grad(set_to_none=True)


main()

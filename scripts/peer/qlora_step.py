"""A step of QLoRA by PEFT and bitsandbytes on the CPU, at the sizes of Phi-3-mini: the peer of

    cargo run --release -p glassbox-prelude --example small_weights -- --part train

    pip install torch transformers peft bitsandbytes
    python scripts/peer/qlora_step.py [--layers 2] [--rounds 3]

The blog's LoRA (rank 64 on gate_up_proj and down_proj) over NF4 with double quantization, 220 tokens, f32 between layers; forward and
backward pass of models of 1 and more layers, so that their difference is what a layer takes.
"""

import argparse
import time

import bitsandbytes as bnb
import peft
import torch
import transformers

TOKENS = 220


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
            begun = time.perf_counter()
            output = model(input_ids=ids, logits_to_keep=1)
            forward = time.perf_counter() - begun
            output.logits.float().square().mean().backward()
            print(f"NF4, {layers} layers: forward {forward:.2f} s, both {time.perf_counter() - begun:.2f} s")
            missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
            assert not missing, missing
            model.zero_grad(set_to_none=True)


main()

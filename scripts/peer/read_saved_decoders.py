#!/usr/bin/env python3
"""Do transformers and PEFT read language models and adapters that we saved, and compute with them what the fixtures say?

  python read_saved_decoders.py FIXTURES NAME=FOLDER ... [--adapter NAME=FOLDER=EXPECTED]

FOLDER is what `Decoder::save` wrote of the model FIXTURES/NAME, or for --adapter what `save_adapter` wrote of LoRA on it; logits
must be those of expected.safetensors. No weight may be missing or left over. One line of JSON each; exit code 0: all hold."""
import json
import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def read(folder):
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    return model.eval(), [key for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[kind]]


@torch.no_grad()
def main():
    fixtures, *arguments = sys.argv[1:]
    holds = True
    adapter = False
    for argument in arguments:
        if argument == "--adapter":
            adapter = True
            continue
        name, folder, *expected = argument.split("=")
        ids = load_file(f"{fixtures}/{name}/expected.safetensors")["input_ids"]
        if adapter:
            model, wrong = read(f"{fixtures}/{name}")
            model, want = PeftModel.from_pretrained(model, folder).eval(), load_file(expected[0])["logits"]
        else:
            model, wrong = read(folder)
            want = load_file(f"{fixtures}/{name}/expected.safetensors")["ids.logits"]
        difference = float((model(ids).logits - want).abs().max())
        ok = not wrong and difference <= 1e-4
        holds &= ok
        print(json.dumps({"ok": ok, "name": name, "adapter": adapter, "keys": [str(key) for key in wrong], "max_abs_diff": difference}), flush=True)
    sys.exit(0 if holds else 1)


main()

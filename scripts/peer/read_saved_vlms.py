#!/usr/bin/env python3
"""Does transformers read published vision-language models that we saved with their LoRA merged, and write the same text?

  python read_saved_vlms.py FIXTURES NAME=FOLDER=ID,ID,... ...

FOLDER is what `Vlm::save_merged` wrote of a fine-tune of FIXTURES/NAME, the ids are what it wrote greedily behind the fixture's text and
picture. Where transformers has a processor without torchvision, it must be there and give the fixture's ids and pixel values too.
`--pair=FOLDER=ID,...=ID,...` is a pair's folder, the ids of a text and the best next id behind each of them. No weight may be missing or
left over. One line of JSON each; exit code 0: all hold."""
import json
import sys

import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer


@torch.no_grad()
def pair(folder, ids, said):
    ids, said = [[int(id) for id in list.split(",")] for list in (ids, said)]
    AutoModel.from_pretrained(f"{folder}/image_encoder")
    AutoImageProcessor.from_pretrained(f"{folder}/image_encoder")
    model = AutoModelForCausalLM.from_pretrained(f"{folder}/llm", dtype=torch.float32).eval()
    own = AutoTokenizer.from_pretrained(f"{folder}/llm")("a red square and two")["input_ids"]
    return own == ids and model(torch.tensor([ids])).logits[0].argmax(-1).tolist() == said


@torch.no_grad()
def main():
    fixtures, *arguments = sys.argv[1:]
    holds = True
    for argument in arguments:
        if argument.startswith("--pair="):
            ok = pair(*argument.split("=")[1:])
            print(json.dumps({"name": "pair", "ok": ok}))
            holds = holds and ok
            continue
        name, folder, greedy = argument.split("=")
        greedy = [int(id) for id in greedy.split(",")]
        model, info = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        wrong = [key for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[kind]]
        case = json.load(open(f"{fixtures}/{name}/expected.json"))["text"]
        pixels = load_file(f"{fixtures}/{name}/expected.safetensors")["pixel_values"]
        image = Image.open(f"{fixtures}/{name}/picture.png")
        if name == "llava_onevision":
            more = dict(pixel_values=pixels[None], image_sizes=torch.tensor([image.size[::-1]]))
        else:
            seen = AutoProcessor.from_pretrained(folder)(images=image, text=case["text"], return_tensors="pt")
            own = seen["pixel_values"]
            if seen["input_ids"][0].tolist() != case["ids"] or not torch.equal(own.reshape(-1, *own.shape[-3:]), pixels):
                wrong.append("the processor's ids or pixel values")
            more = {name: values for name, values in seen.items() if name not in ("input_ids", "attention_mask")}
        ids = list(case["ids"])
        for _ in greedy:
            ids.append(int(model.eval()(input_ids=torch.tensor([ids]), **more).logits[0, -1].argmax()))
        made = ids[len(case["ids"]):]
        ok = not wrong and made == greedy
        print(json.dumps({"name": name, "ok": ok, "wrong": wrong, "greedy": made}))
        holds = holds and ok
    sys.exit(0 if holds else 1)


main()

"""Makes expected.json beside this file: what transformers generates with beams, and how it filters logits before a draw.

The language model is tests/fixtures/llm, the prompt that of tests/fixtures/vlm (start | image | end | query vectors).
Many ids count as end-of-sequence, so that texts of random weights end at different lengths.
Run: python make.py (torch, transformers 4.57, safetensors).
"""
import json
import os

import torch
from safetensors.torch import load_file
from transformers import Phi3ForCausalLM
from transformers.generation import logits_process as lp

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "fixtures")
NEW = 10


def beams():
    llm = Phi3ForCausalLM.from_pretrained(os.path.join(FIXTURES, "llm"), attn_implementation="eager").float().eval()
    vlm = load_file(os.path.join(FIXTURES, "vlm", "vlm.safetensors"))
    image = load_file(os.path.join(FIXTURES, "vlm", "expected.safetensors"))["image_tokens"]
    two = lambda name: vlm[name].expand(2, -1, -1)
    embeds = torch.cat([two("start_vec"), image, two("end_vec"), two("query_vec")], 1)  # [2, T, D]
    mask = torch.ones(embeds.shape[:2], dtype=torch.long)
    stops = {"none": [], "some": list(range(0, 832, 40)), "many": list(range(0, 832, 5))}
    cases = []
    for n, penalty, early, stop, repetition in [
        (2, 1.0, False, "some", 1.0),
        (3, 1.0, True, "some", 1.0),
        (4, 1.0, "never", "many", 1.0),
        (4, 0.0, False, "many", 1.0),
        (3, 2.0, "never", "some", 1.0),
        (3, -1.0, False, "some", 1.0),
        (4, 1.0, True, "many", 1.5),
        (4, 0.5, False, "none", 1.3),
        (5, 1.0, False, "many", 1.0),
    ]:
        out = llm.generate(
            inputs_embeds=embeds, attention_mask=mask, max_new_tokens=NEW, do_sample=False, num_beams=n,
            length_penalty=penalty, early_stopping=early, repetition_penalty=repetition, num_return_sequences=n,
            eos_token_id=stops[stop] or None, pad_token_id=831, return_dict_in_generate=True, output_scores=True,
        )
        texts = []
        for ids, score in zip(out.sequences.tolist(), out.sequences_scores.tolist()):
            end = next((i + 1 for i, id in enumerate(ids) if id in stops[stop]), None)
            if end is None:
                end = next((i for i, id in enumerate(ids) if id == 831), len(ids))
            texts.append({"ids": ids[:end], "score": score})
        cases.append({
            "num_beams": n, "length_penalty": penalty, "early_stopping": early, "stop_ids": stops[stop],
            "repetition_penalty": repetition, "pictures": [texts[:n], texts[n:]],
        })
    return {"max_new_tokens": NEW, "cases": cases}


def sampling():
    generator = torch.Generator().manual_seed(1)
    cases = []
    for temperature, k, p, penalty in [
        (1.0, 0, 1.0, 1.0), (0.7, 0, 1.0, 1.0), (1.0, 5, 1.0, 1.0), (1.0, 0, 0.8, 1.0), (1.5, 8, 0.9, 1.0),
        (0.8, 6, 0.7, 1.4), (1.0, 0, 0.05, 1.0), (2.0, 12, 0.95, 0.6),
    ]:
        logits = (torch.randn(1, 24, generator=generator) * 2)
        logits[0, 3] = logits[0, 9]  # a tie
        made = torch.tensor([[1, 4, 4, 17, 9]])
        out = logits
        if penalty != 1.0:
            out = lp.RepetitionPenaltyLogitsProcessor(penalty)(made, out.clone())
        if temperature != 1.0:
            out = lp.TemperatureLogitsWarper(temperature)(made, out)
        if k:
            out = lp.TopKLogitsWarper(k)(made, out)
        if p < 1.0:
            out = lp.TopPLogitsWarper(p)(made, out)
        cases.append({
            "temperature": temperature, "top_k": k, "top_p": p, "repetition_penalty": penalty,
            "logits": logits[0].tolist(), "made": made[0].tolist(), "probabilities": torch.softmax(out, -1)[0].tolist(),
        })
    return cases


if __name__ == "__main__":
    with open(os.path.join(HERE, "expected.json"), "w") as file:
        json.dump({"beams": beams(), "sampling": sampling()}, file, indent=1)
        file.write("\n")

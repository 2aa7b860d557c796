"""Adapters as PEFT itself saves them, for `prelude/tests/adapters`: `python make.py` writes one folder a case and expected.json.

Each is made on a tiny model of tests/fixtures with random factors, saved, loaded again by PEFT onto a fresh base, and run: the logits of
the last token (language model) or the first values of the last hidden state (ViT) are what the prelude must get too. Where the prelude
refuses an adapter, `refuses` names what its message must say. Needs PEFT 0.21.2 (see scripts/peer/requirements.txt).
"""

import json
import pathlib
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, ViTModel

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE.parent.parent.parent / "tests" / "fixtures"
IDS = [[1, 5, 9, 17, 33, 2, 70]]
MLP = ["gate_up_proj", "down_proj"]

# What LoraConfig is made with, and what the prelude's refusal must name, if it refuses.
LLM = {
    "plain": dict(target_modules=MLP),
    "rank_and_alpha_patterns": dict(
        target_modules=[*MLP, "qkv_proj", "o_proj"],
        rank_pattern={r"model\.layers\.0\.mlp\..*": 3, "^model.layers.1.self_attn.(qkv|o)_proj": 1, r"layers\.[12]\.mlp\.down_proj": 4},
        # PEFT writes them sorted: where two match, the first of those counts.
        alpha_pattern={r"model\.layers\.0\.mlp\..*": 64, "down_proj": 5, r"layers\.\d+\..*qkv_proj": 7, "proj": 100, "(o|up)_proj": 24},
    ),
    "patterns_with_rslora": dict(target_modules=MLP, use_rslora=True, rank_pattern={"down_proj": 4}, alpha_pattern={"gate_up_.*": 3}),
    "targets_as_a_pattern": dict(target_modules=r"model\.layers\.[01]\.(mlp\.down|self_attn\.o)_proj"),
    "all_linear": dict(target_modules="all-linear"),
    "excluded_names": dict(target_modules=[*MLP, "o_proj"], exclude_modules=["layers.0.mlp.down_proj", "o_proj"]),
    "excluded_pattern": dict(target_modules=MLP, exclude_modules=r".*layers\.0\..*"),
    "one_layer": dict(target_modules=MLP, layers_to_transform=1),
    "layers_by_pattern": dict(target_modules=MLP, layers_to_transform=[0], layers_pattern="layers"),
    "head": dict(target_modules=["lm_head", "down_proj"]),
    "gaussian": dict(target_modules=MLP, init_lora_weights="gaussian"),
    "orthogonal": dict(target_modules=MLP, init_lora_weights="orthogonal"),
    "not_initialised": dict(target_modules=MLP, init_lora_weights=False),
    "mica": dict(target_modules=MLP, init_lora_weights="mica"),
    "fan_in_fan_out": dict(target_modules=MLP, fan_in_fan_out=True),
    "task_of_another_kind": dict(target_modules=MLP, task_type="FEATURE_EXTRACTION", revision="v2"),
    "pissa": (dict(target_modules=MLP, init_lora_weights="pissa"), "init_lora_weights", "pissa"),
    "pissa_niter": (dict(target_modules=MLP, init_lora_weights="pissa_niter_4"), "init_lora_weights", "pissa_niter_4"),
    "olora": (dict(target_modules=MLP, init_lora_weights="olora"), "init_lora_weights", "olora"),
    "bias_all": (dict(target_modules=MLP, bias="all"), "bias", "all"),
    "modules_to_save": (dict(target_modules=MLP, modules_to_save=["lm_head"]), "modules_to_save", "lm_head"),
    "trainable_tokens": (dict(target_modules=MLP, trainable_token_indices=[3, 5]), "trainable_token_indices"),
    "dora": dict(target_modules=MLP, use_dora=True),
    "dora_with_rslora": dict(target_modules=["o_proj", "down_proj"], use_dora=True, use_rslora=True),
    "lora_bias": (dict(target_modules=["o_proj"], lora_bias=True), "lora_bias"),
    "embeddings": (dict(target_modules=["embed_tokens", "down_proj"]), "embed_tokens"),
    "parameters": (dict(target_modules=[], target_parameters=["down_proj.weight"]), "target_parameters"),
    "replicated": (dict(target_modules=MLP, layer_replication=[[0, 2], [0, 1]]), "layer_replication"),
    "invoked": (dict(target_modules=MLP, task_type="CAUSAL_LM", alora_invocation_tokens=[5]), "alora_invocation_tokens"),
}
VIT = {
    "vit_patterns": dict(target_modules=["dense", "query"], rank_pattern={r"attention\.output\.dense": 1, r"layer\.1\..*": 4}, alpha_pattern={"query": 24}),
    "vit_as_a_pattern": dict(target_modules=r"encoder\.layer\.\d+\.(intermediate|output)\.dense"),
    "vit_all_linear": dict(target_modules="all-linear"),
    "vit_biases": (dict(target_modules=["dense"], bias="lora_only"), "bias", "lora_only"),
}


def base(kind):
    torch.manual_seed(0)
    if kind == "llm":
        return AutoModelForCausalLM.from_pretrained(FIXTURES / "llm", dtype=torch.float32)
    return ViTModel.from_pretrained(FIXTURES / "vit", dtype=torch.float32)


def run(model, kind):
    model.eval()
    with torch.no_grad():
        if kind == "llm":
            return model(input_ids=torch.tensor(IDS)).logits[0, -1, :64]
        pixels = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
        return model(pixel_values=pixels).last_hidden_state[0, 0]


def make(name, kind, fields, refuses):
    folder = HERE / "cases" / name
    shutil.rmtree(folder, ignore_errors=True)
    model = get_peft_model(base(kind), LoraConfig(**(dict(r=2, lora_alpha=8) | fields)))
    torch.manual_seed(sum(name.encode()))
    for key, parameter in model.named_parameters():
        if key.endswith("magnitude_vector.default.weight"):
            # Lengths that the rows of the weight do not have.
            with torch.no_grad():
                parameter.mul_(1 + 0.3 * torch.randn_like(parameter))
        elif "lora_" in key:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder, save_embedding_layers=False)
    # The base is named as it is in every checkout.
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace(str(FIXTURES.parent.parent) + "/", ""))
    (folder / "README.md").unlink(missing_ok=True)
    if refuses:
        # The config is enough to refuse all but one.
        if name != "embeddings":
            (folder / "adapter_model.safetensors").unlink()
        return {"kind": kind, "refuses": refuses}
    loaded = PeftModel.from_pretrained(base(kind), folder)
    plain, values = run(base(kind), kind), run(loaded, kind)
    assert (plain - values).abs().max() > 1e-2, name
    return {"kind": kind, "values": [round(value, 6) for value in values.tolist()]}


def main():
    expected = {}
    for kind, cases in [("llm", LLM), ("vit", VIT)]:
        for name, fields in cases.items():
            fields, *refuses = fields if isinstance(fields, tuple) else (fields,)
            expected[name] = make(name, kind, fields, refuses)
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in expected.items()]
    (HERE / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

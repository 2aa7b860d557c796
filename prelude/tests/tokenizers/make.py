"""Small tokenizers and what transformers makes of them, for `prelude/tests/tokenizers`: `python make.py` writes cases.json.

Each case is the files of a folder, and for some texts the ids and decoded texts of transformers' fast tokenizer.
Needs transformers 4.57.6 and tokenizers 0.22.2 (see scripts/peer/requirements.txt).
"""

import json
import pathlib
import tempfile

from transformers import AutoTokenizer, PreTrainedTokenizerFast

TEXTS = [
    "a b",
    "a <pad> b",
    "a <x> b <y>b",
    "<s> a </s>",
    "aYb Y b",
    "A <X> <x>",
    "  a  <end>  b <unk>",
    "<|endoftext|>a<bos>",
    " ".join(["a", "b"] * 8),
]


def added(content, id=None, **more):
    token = dict(content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    token |= more
    return token if id is None else dict(id=id) | token


def tokenizer(tokens=(), **more):
    vocab = {text: id for id, text in enumerate(["<unk>", "<s>", "</s>", "a", "b", "A", "x", "<", ">", "Y", "aYb"])}
    base = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added("<unk>", 0), added("<s>", 1), added("</s>", 2), *tokens],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": vocab},
    }
    return base | more


def bytes_tokenizer(**more):
    vocab = {text: id for id, text in enumerate(["a", "b", "Ġ", "Ġa", "Ġb", "<", ">", "x", "<|endoftext|>"])}
    return tokenizer(
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        added_tokens=[added("<|endoftext|>", 8)],
        model={"type": "BPE", "vocab": vocab, "merges": [["Ġ", "a"], ["Ġ", "b"]], "unk_token": None},
    ) | more


def config(cls="PreTrainedTokenizerFast", **more):
    return {"tokenizer_class": cls} | more


BOS = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}
SIX = {f"{id}": added(text) for id, text in [(0, "<unk>"), (1, "<s>"), (2, "</s>")]}

CASES = {
    "decoder": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config(added_tokens_decoder=SIX | {"11": added("<x>"), "12": added("<y>", special=False)}),
    },
    "decoder_with_blanks_and_whole_words": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config(
            added_tokens_decoder=SIX
            | {
                "11": added("<x>", lstrip=True, rstrip=True),
                "12": added("<end>", rstrip=True),
                "9": added("Y", single_word=True),
            }
        ),
    },
    "decoder_changes_a_token_of_the_tokenizer": {
        "tokenizer.json": tokenizer([added("<x>", 11)]),
        "tokenizer_config.json": config(added_tokens_decoder=SIX | {"11": added("<x>", lstrip=True, special=False)}),
    },
    "decoder_with_other_ids": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config(added_tokens_decoder=SIX | {"30": added("<x>"), "20": added("<y>")}),
    },
    "decoder_without_order": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config(added_tokens_decoder={"12": added("<x>"), "11": added("<y>")} | SIX),
    },
    "decoder_with_few_fields": {
        "tokenizer.json": tokenizer(normalizer={"type": "Lowercase"}),
        "tokenizer_config.json": config(added_tokens_decoder=SIX | {"11": {"content": "<X>"}, "12": {"content": "<end>", "special": True}}),
    },
    "roles": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config(bos_token="<s>", eos_token="<end>", pad_token="<pad>", unk_token="<unk>", mask_token=None),
    },
    "roles_make_tokens_special": {
        "tokenizer.json": tokenizer([added("<x>", 11, special=False), added("<end>", 12, special=False)]),
        "tokenizer_config.json": config(
            eos_token="<end>",
            additional_special_tokens=["<x>"],
            added_tokens_decoder=SIX | {"11": added("<x>", special=False), "12": added("<end>", special=False)},
        ),
    },
    "additional": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config(additional_special_tokens=["<y>", "<x>", "<y>", "a"]),
    },
    "role_as_object": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config(pad_token={"__type": "AddedToken"} | added("<pad>", lstrip=True)),
    },
    "map": {
        "tokenizer.json": tokenizer(),
        "special_tokens_map.json": {"bos_token": "<s>", "pad_token": "<pad>", "additional_special_tokens": ["<x>", "<y>"]},
    },
    "map_with_objects": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config(pad_token="<end>", additional_special_tokens=["<y>"]),
        "special_tokens_map.json": {
            "pad_token": added("<pad>", lstrip=True, special=False),
            "additional_special_tokens": [added("<x>", rstrip=True), "<end>"],
        },
    },
    "map_beside_a_decoder": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config(pad_token="<pad>", added_tokens_decoder=SIX | {"11": added("<pad>")}),
        "special_tokens_map.json": {"pad_token": "<x>", "eos_token": "<end>"},
    },
    "added": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config(pad_token="<pad>"),
        "special_tokens_map.json": {"additional_special_tokens": ["<x>"]},
        "added_tokens.json": {"<x>": 12, "<y>": 11, "<pad>": 13},
    },
    "added_with_other_ids": {
        "tokenizer.json": tokenizer(),
        "special_tokens_map.json": {"additional_special_tokens": ["<x>"]},
        "added_tokens.json": {"<x>": 40},
    },
    "llama": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config("LlamaTokenizer"),
    },
    "llama_without_start": {
        "tokenizer.json": tokenizer(post_processor=BOS),
        "tokenizer_config.json": config("LlamaTokenizer", add_bos_token=False, bos_token="<s>"),
    },
    "llama_with_end": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config("LlamaTokenizerFast", add_bos_token=True, add_eos_token=True, eos_token="<end>"),
    },
    "llama_without_a_start_token": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config("LlamaTokenizer", add_bos_token=True, bos_token=None),
    },
    "gemma": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config("GemmaTokenizer"),
    },
    "phi3_by_config": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {"eos_token": "<end>"},
        "config.json": {"model_type": "phi3"},
    },
    "add_bos_of_another_class": {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": config(add_bos_token=True, add_eos_token=True, bos_token="<s>", eos_token="</s>"),
    },
    "post_processor_of_the_file": {
        "tokenizer.json": tokenizer(post_processor=BOS),
        "tokenizer_config.json": config(add_bos_token=False),
    },
    "gpt2": {
        "tokenizer.json": bytes_tokenizer(),
        "tokenizer_config.json": config("GPT2Tokenizer", add_bos_token=True, pad_token="<pad>"),
    },
    "qwen2": {
        "tokenizer.json": bytes_tokenizer(),
        "tokenizer_config.json": config("Qwen2Tokenizer", eos_token="<end>"),
    },
    "prefix_space": {
        "tokenizer.json": bytes_tokenizer(),
        "tokenizer_config.json": config("GPT2Tokenizer", add_prefix_space=True),
    },
    "padding_and_truncation_of_the_file": {
        "tokenizer.json": tokenizer(
            truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
            padding={
                "strategy": {"Fixed": 12},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 2,
                "pad_type_id": 0,
                "pad_token": "</s>",
            },
        ),
        "tokenizer_config.json": config(),
    },
    "special_tokens_are_split": {
        "tokenizer.json": tokenizer([added("<x>", 11)]),
        "tokenizer_config.json": config(split_special_tokens=True),
    },
    "no_config": {"tokenizer.json": tokenizer([added("<x>", 11)])},
}


def expected(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (pathlib.Path(folder) / name).write_text(json.dumps(content))
        named = "tokenizer_class" in files.get("tokenizer_config.json", {}) or "config.json" in files
        try:
            tokenizer = (AutoTokenizer if named else PreTrainedTokenizerFast).from_pretrained(folder)
        except Exception as error:  # Whatever transformers runs into.
            return {"error": f"{type(error).__name__}: {error}"}
        texts = []
        for text in TEXTS:
            ids = tokenizer(text)["input_ids"]
            texts.append(
                {
                    "text": text,
                    "ids": ids,
                    "plain_ids": tokenizer(text, add_special_tokens=False)["input_ids"],
                    "decoded": tokenizer.decode(ids, clean_up_tokenization_spaces=False),
                    "decoded_plainly": tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
                }
            )
        return {
            "entries": len(tokenizer),
            "bos_id": tokenizer.bos_token_id,
            "eos_id": tokenizer.eos_token_id,
            "pad_id": tokenizer.pad_token_id,
            "roles": tokenizer.special_tokens_map,
            "texts": texts,
        }


def main():
    cases = {name: {"files": files, "expected": expected(files)} for name, files in CASES.items()}
    # One line a case keeps the file small.
    lines = [f"{json.dumps(name)}: {json.dumps(case, ensure_ascii=False)}" for name, case in cases.items()]
    path = pathlib.Path(__file__).parent / "cases.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

//! The tokenizer of a tiny language model: a list of words → `tokenizer.json` and `tokenizer_config.json`.
//!
//! The same kind as Phi-3's: byte-pair encoding with `▁` for spaces, bytes as the way out for unknown characters, and
//! Phi-3's special tokens. Merges are learned until every word of the list is one token; any other text
//! still encodes, in smaller pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use glassbox_prelude::Result;
use glassbox_prelude::serde_json::{Value, json};

/// Added after the merges, in Phi-3's order; (text, swallows the white space after it, special).
const ADDED: [(&str, bool, bool); 13] = [
    ("<|endoftext|>", false, true),
    ("<|assistant|>", true, true),
    ("<|placeholder1|>", true, true),
    ("<|placeholder2|>", true, true),
    ("<|placeholder3|>", true, true),
    ("<|placeholder4|>", true, true),
    ("<|system|>", true, true),
    ("<|end|>", true, true),
    ("<|placeholder5|>", true, true),
    ("<|placeholder6|>", true, true),
    ("<|user|>", true, true),
    ("<|imstart|>", false, true),
    ("<|imend|>", false, true),
];

/// Writes both files into `dir`, with one token for each of `words`, their leading `▁` with them; returns the number of tokens.
pub fn write(dir: &Path, words: &[String]) -> Result<usize> {
    let mut vocabulary = Vec::from(["<unk>", "<s>", "</s>"].map(String::from));
    vocabulary.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let mut letters: BTreeSet<char> = (' '..='~').filter(|letter| *letter != ' ').collect();
    letters.insert('▁');
    vocabulary.extend(letters.iter().map(char::to_string));
    let merges = merges(words);
    for (left, right) in &merges {
        let merged = format!("{left}{right}");
        if !vocabulary.contains(&merged) {
            vocabulary.push(merged);
        }
    }
    let ids: BTreeMap<&str, usize> = vocabulary
        .iter()
        .enumerate()
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let mut by_id: Vec<(&str, usize)> = ids.into_iter().collect();
    by_id.sort_by_key(|(_, id)| *id);
    let vocab: glassbox_prelude::serde_json::Map<String, Value> = by_id
        .into_iter()
        .map(|(token, id)| (token.to_string(), json!(id)))
        .collect();
    let first = [
        ("<unk>", false, true),
        ("<s>", false, true),
        ("</s>", true, false),
    ];
    let added = first.iter().enumerate().map(|(id, token)| (id, *token));
    let added = added.chain(
        ADDED
            .iter()
            .enumerate()
            .map(|(place, token)| (vocabulary.len() + place, *token)),
    );
    let added: Vec<Value> = added
        .map(|(id, (content, rstrip, special))| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": rstrip,
                "normalized": false, "special": special })
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" } ] },
        "pre_tokenizer": null,
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": "<s>", "type_id": 1 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } } },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 } ] },
        "model": { "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": merges },
    });
    let config = json!({
        "add_bos_token": true, "add_eos_token": false, "bos_token": "<s>", "eos_token": "<|end|>",
        "pad_token": "<|endoftext|>", "unk_token": "<unk>", "padding_side": "left", "model_max_length": 256,
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
        "chat_template": "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    });
    super::write_json(&dir.join("tokenizer.json"), &tokenizer)?;
    super::write_json(&dir.join("tokenizer_config.json"), &config)?;
    Ok(vocabulary.len() + ADDED.len())
}

/// Byte-pair merges until each word is one token: the most frequent pair first, ties in the pairs' own order.
fn merges(words: &[String]) -> Vec<(String, String)> {
    let mut pieces: Vec<Vec<String>> = words
        .iter()
        .map(|word| word.chars().map(String::from).collect())
        .collect();
    let mut merges = Vec::new();
    loop {
        let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
        for word in &pieces {
            for pair in word.windows(2) {
                *counts
                    .entry((pair[0].clone(), pair[1].clone()))
                    .or_default() += 1;
            }
        }
        let most = counts.values().copied().max();
        let Some((left, right)) = counts
            .into_iter()
            .find(|(_, count)| Some(*count) == most)
            .map(|(pair, _)| pair)
        else {
            return merges;
        };
        for word in &mut pieces {
            let mut place = 0;
            while place + 1 < word.len() {
                if word[place] == left && word[place + 1] == right {
                    word[place] = format!("{left}{right}");
                    word.remove(place + 1);
                }
                place += 1;
            }
        }
        merges.push((left, right));
    }
}

//! Tokenizers of which `tokenizer.json` tells only a part: ids, decoded texts and roles must be those of transformers.
//!
//! `make.py` wrote `cases.json`: the files of each folder, and what transformers makes of them.

use glassbox_prelude::language::{ChatMessage, ChatOptions, LlmProcessor};
use glassbox_prelude::serde_json::{self, Value, json};

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("ids")
}

fn folder(files: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in files.as_object().expect("files") {
        std::fs::write(folder.path().join(name), content.to_string()).expect("a file");
    }
    folder
}

fn cases() -> serde_json::Map<String, Value> {
    serde_json::from_str(include_str!("cases.json")).expect("cases.json")
}

#[test]
fn special_tokens_that_only_other_files_name_are_added_as_transformers_adds_them() {
    let mut wrong = Vec::new();
    for (name, case) in cases() {
        let folder = folder(&case["files"]);
        let expected = &case["expected"];
        let processor = match (LlmProcessor::from_dir(folder.path()), &expected["error"]) {
            (Ok(processor), Value::Null) => processor,
            (Err(error), Value::String(_)) => {
                assert!(
                    error.to_string().contains("add_bos_token"),
                    "{name}: {error}"
                );
                continue;
            }
            (Ok(_), error) => panic!("{name}: transformers refuses it: {error}"),
            (Err(error), _) => panic!("{name}: {error}"),
        };
        let mut check = |what: &str, found: Value, expected: &Value| {
            if found != *expected {
                wrong.push(format!("{name}, {what}: {found}, transformers {expected}"));
            }
        };
        check(
            "entries",
            processor.vocab_size().into(),
            &expected["entries"],
        );
        check("bos", json!(processor.bos_id()), &expected["bos_id"]);
        check("eos", json!(processor.eos_id()), &expected["eos_id"]);
        check("pad", json!(processor.pad_id()), &expected["pad_id"]);
        for text in expected["texts"].as_array().expect("texts") {
            let (words, with) = (text["text"].as_str().expect("a text"), ids(&text["ids"]));
            check(
                words,
                json!(processor.encode(words).expect("ids")),
                &text["ids"],
            );
            let plain = processor.encode_plain(words).expect("ids");
            check(words, json!(plain), &text["plain_ids"]);
            // The tokenizers library of 0.23 writes a token that is normalised as it is normalised; that of transformers did not.
            if name != "decoder_with_few_fields" {
                let decoded = processor.decode_with_special(&with).expect("a text");
                check(words, json!(decoded), &text["decoded"]);
                let decoded = processor.decode(&with).expect("a text");
                check(words, json!(decoded), &text["decoded_plainly"]);
            }
        }
        // A chat template sees the same roles.
        let template = "{{ {'bos_token': bos_token, 'eos_token': eos_token, 'unk_token': unk_token, 'pad_token': pad_token, 'additional_special_tokens': additional_special_tokens} }}";
        let options = ChatOptions {
            template: Some(template.to_string()),
            ..ChatOptions::default()
        };
        let none: [ChatMessage; 0] = [];
        let text = processor
            .render_conversation(&none, &options)
            .expect("a text");
        for role in expected["roles"].as_object().expect("roles").values() {
            for token in role.as_array().unwrap_or(&vec![role.clone()]) {
                let token = token.as_str().expect("a token");
                assert!(
                    text.contains(&format!("'{token}'")),
                    "{name}: {token} in {text}"
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_that_contradict_each_other_are_named() {
    let notes = |name: &str| {
        let folder = folder(&cases()[name]["files"]);
        let processor = LlmProcessor::from_dir(folder.path()).expect("a tokenizer");
        processor.notes().join("\n")
    };
    for name in ["decoder", "roles", "added", "map", "llama"] {
        assert_eq!(notes(name), "", "{name}");
    }
    let text = notes("decoder_with_other_ids");
    assert!(
        text.contains("\"<x>\" has the id 30 by name and 12"),
        "{text}"
    );
    let text = notes("added_with_other_ids");
    assert!(
        text.contains("\"<x>\" has the id 40 by name and 11"),
        "{text}"
    );
    let text = notes("map_beside_a_decoder");
    assert!(
        text.contains("special_tokens_map.json") && text.contains("<end>"),
        "{text}"
    );
}

#[test]
fn a_folder_without_tokenizer_json_says_what_it_has() {
    let folder = folder(&json!({"tokenizer.model": "x"}));
    let error = LlmProcessor::from_dir(folder.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("only tokenizer.model") && error.contains("save_pretrained"),
        "{error}"
    );
}

//! Tokenizer and chat template: ids, decoded text and rendered conversations must be equal.

use crate::compare::{Fixtures, Group, Outcome};
use glassbox_prelude::language::{ChatMessage, LlmProcessor};
use glassbox_prelude::serde_json::{self, Value};

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .map(|id| id as u32)
        .collect()
}

pub fn text(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let processor = LlmProcessor::from_dir(fixtures.path("tokenizer"))?;
    let expected = fixtures.json("tokenizer/expected.json")?;
    let cases = expected["cases"].as_array().ok_or("no cases")?;
    for case in cases {
        let text = case["text"].as_str().ok_or("a case without text")?;
        let shown: String = text.chars().take(24).collect();
        let with = processor.encode(text)?;
        group.equal(&format!("{shown:?} ids"), &with, &ids(&case["ids"]));
        group.equal(
            &format!("{shown:?} plain ids"),
            &processor.encode_plain(text)?,
            &ids(&case["ids_no_special"]),
        );
        group.equal(
            &format!("{shown:?} decoded"),
            &Some(processor.decode_with_special(&with)?.as_str()),
            &case["decode"].as_str(),
        );
        group.equal(
            &format!("{shown:?} decoded, no special"),
            &Some(processor.decode(&with)?.as_str()),
            &case["decode_skip_special"].as_str(),
        );
        let tokens: Vec<Value> = with
            .iter()
            .map(|&id| Value::from(processor.token(id)))
            .collect();
        group.equal(
            &format!("{shown:?} tokens"),
            &Value::from(tokens),
            &case["tokens"],
        );
    }
    if let Some(size) = expected["vocab_size_with_added"].as_u64() {
        group.equal("entries", &(processor.vocab_size() as u64), &size);
    }
    Ok(())
}

pub fn chat(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let processor = LlmProcessor::from_dir(fixtures.path("tokenizer"))?;
    let expected = fixtures.json("tokenizer/expected.json")?;
    for (i, case) in expected["chat"]
        .as_array()
        .ok_or("no conversations")?
        .iter()
        .enumerate()
    {
        let name = case["template"]
            .as_str()
            .ok_or("a conversation without template")?;
        let template = expected["templates"][name]
            .as_str()
            .ok_or("an unknown template")?;
        let messages: Vec<ChatMessage> = serde_json::from_value(case["messages"].clone())?;
        let answer_next = case["add_generation_prompt"].as_bool().unwrap_or(false);
        let text = processor.render_chat_with(template, &messages, answer_next)?;
        group.equal(
            &format!("conversation {i} by {name}"),
            &Some(text.as_str()),
            &case["text"].as_str(),
        );
        group.equal(
            &format!("conversation {i} ids"),
            &processor.encode_plain(&text)?,
            &ids(&case["ids_no_special"]),
        );
        if Some(template) == processor.chat_template() {
            group.equal(
                &format!("conversation {i} by the folder's own template"),
                &processor.render_chat(&messages, answer_next)?,
                &text,
            );
        }
    }
    Ok(())
}

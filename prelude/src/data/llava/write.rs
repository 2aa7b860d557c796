//! Writes conversations as LLaVA's data has them, so that what was made here can be read here and elsewhere.

use std::path::Path;

use serde_json::{Value, json};

use super::entry::PLACE;
use super::{Conversation, Said, Speaker};
use crate::{Error, Result};

/// Writes conversations to one JSON file, which [`Conversations::open`](super::Conversations::open) reads back. The file is there
/// whole or not at all.
///
/// # Errors
/// `Input` for no conversation, a text that spells the place of a picture, or an empty turn; `Io`.
pub fn save(file: impl AsRef<Path>, conversations: &[Conversation]) -> Result<()> {
    let file = file.as_ref();
    if conversations.is_empty() {
        return Err(Error::Input(format!(
            "no conversation to write to {}: give at least one",
            file.display()
        )));
    }
    let samples = conversations.iter().enumerate();
    let samples = samples.map(|(at, conversation)| sample(at, conversation));
    let samples = Value::Array(samples.collect::<Result<_>>()?);
    let json = |source| Error::Json {
        path: file.into(),
        source,
    };
    let text = serde_json::to_string_pretty(&samples).map_err(json)?;
    crate::files::write_whole(file, (text + "\n").as_bytes())
}

fn sample(at: usize, conversation: &Conversation) -> Result<Value> {
    let refuse = |what: &str| Error::Input(format!("conversation {at} {what}"));
    let mut turns = Vec::new();
    if let Some(system) = &conversation.system {
        turns.push(json!({"from": "system", "value": system}));
    }
    let mut places = 0;
    for turn in &conversation.turns {
        let mut value = String::new();
        for piece in &turn.said {
            if !value.is_empty() {
                value.push('\n');
            }
            match piece {
                Said::Text(text) if text.contains(PLACE) => {
                    return Err(refuse(&format!(
                        "has a text with {PLACE} in it, which would be read as the place of a picture: write it another way"
                    )));
                }
                Said::Text(text) => value.push_str(text),
                Said::Picture(number) if *number == places => {
                    places += 1;
                    value.push_str(PLACE);
                }
                Said::Picture(_) => {
                    return Err(refuse(
                        "shows its pictures in another order than it lists them: number them as they come",
                    ));
                }
            }
        }
        if value.trim().is_empty() {
            return Err(refuse("has an empty turn"));
        }
        let from = match turn.speaker {
            Speaker::Human => "human",
            Speaker::Model => "gpt",
        };
        turns.push(json!({"from": from, "value": value}));
    }
    if places != conversation.pictures.len() {
        return Err(refuse(&format!(
            "shows {places} of its {} pictures",
            conversation.pictures.len()
        )));
    }
    let mut sample = json!({"id": conversation.id, "conversations": turns});
    match conversation.pictures.as_slice() {
        [] => {}
        [only] => sample["image"] = json!(only),
        several => sample["image"] = json!(several),
    }
    Ok(sample)
}

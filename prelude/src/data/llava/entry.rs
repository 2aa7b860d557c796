//! One sample of a LLaVA file: what its fields say, what they must mean though written oddly, or why it can't be used.

use super::{Conversation, Said, Speaker, Turn};
use crate::data::json::{self, Value, value};

/// Where a picture stands in the text.
pub(super) const PLACE: &str = "<image>";

/// A sample that was read, with the oddities that it was read through.
pub(super) struct Read {
    pub conversation: Conversation,
    /// As they stand in the file.
    pub images: Vec<String>,
    pub repaired: Vec<&'static str>,
}

/// Reads a sample.
///
/// # Errors
/// The kind of samples that it is of, in the plural.
pub(super) fn read(raw: &[u8]) -> Result<Read, String> {
    let [id, image, images, turns] =
        json::raw_fields(raw, ["id", "image", "images", "conversations"])
            .ok_or("samples that are no JSON object")?;
    let mut repaired = Vec::new();
    let images = pictures(image.or(images))?;
    let list = turns.ok_or("samples without conversations")?;
    let list = json::elements(list).ok_or("samples whose conversations are no list")?;
    let mut turns = Vec::with_capacity(list.len());
    let mut system = None;
    let mut places = 0;
    for raw in list {
        let (speaker, text) = turn(raw)?;
        match speaker {
            None => system = Some(text),
            Some(Speaker::Model) if turns.is_empty() => {
                // As LLaVA's own reader does.
                repaired.push("first turns by the model, which are left out");
            }
            Some(speaker) => {
                let said = pieces(&text, &mut places);
                if speaker == Speaker::Model
                    && said.iter().any(|piece| matches!(piece, Said::Picture(_)))
                {
                    return Err("samples with a picture in an answer".into());
                }
                turns.push(Turn { speaker, said });
            }
        }
    }
    in_turn(&turns)?;
    if turns.len() % 2 == 1 {
        turns.pop();
        repaired.push("last questions without an answer, which are left out");
        places = places_in(&turns);
    }
    if turns.is_empty() {
        return Err("samples without a question and an answer".into());
    }
    if places == 0 && !images.is_empty() {
        let places = (0..images.len()).map(Said::Picture);
        turns[0].said.splice(0..0, places);
        repaired.push("pictures without a place, put in front of the first question");
    } else if places != images.len() {
        return Err("samples with another number of <image> places than of pictures".into());
    }
    let id = match id.map(value) {
        Some(Value::Text(id, _)) => id.into_owned(),
        Some(Value::Number(id)) => id.to_string(),
        _ => String::new(),
    };
    Ok(Read {
        conversation: Conversation {
            id,
            system,
            turns,
            pictures: Vec::new(),
        },
        images,
        repaired,
    })
}

fn pictures(field: Option<&[u8]>) -> Result<Vec<String>, String> {
    let Some(field) = field else {
        return Ok(Vec::new());
    };
    let names = match value(field) {
        Value::Null => return Ok(Vec::new()),
        Value::List => json::elements(field).ok_or("samples whose image is no JSON value")?,
        _ => vec![field],
    };
    let names = names.into_iter().map(|name| match value(name) {
        Value::Text(name, false) => Ok(name.into_owned()),
        other => Err(format!("samples with an image that is {}", other.words())),
    });
    names.collect()
}

/// Who speaks, `None` for the system, and what.
fn turn(raw: &[u8]) -> Result<(Option<Speaker>, String), String> {
    // LLaVA's names, then those of chat formats.
    let [from, value, role, content] = json::fields(raw, ["from", "value", "role", "content"])
        .ok_or("samples with a turn that is no JSON object")?;
    let (Value::Text(from, _), Value::Text(text, _)) = (
        if from == Value::Missing { role } else { from },
        if value == Value::Missing {
            content
        } else {
            value
        },
    ) else {
        return Err("samples with a turn without \"from\" and \"value\"".into());
    };
    let speaker = match &*from.to_lowercase() {
        "human" | "user" => Some(Speaker::Human),
        "gpt" | "assistant" | "model" => Some(Speaker::Model),
        "system" => None,
        _ => return Err(format!("samples with a turn from {from:?}")),
    };
    if text.trim().is_empty() {
        return Err("samples with an empty turn".into());
    }
    Ok((speaker, text.into_owned()))
}

/// The text between the places of pictures, which are numbered on.
fn pieces(text: &str, places: &mut usize) -> Vec<Said> {
    let mut pieces = Vec::new();
    for (index, part) in text.split(PLACE).enumerate() {
        if index > 0 {
            pieces.push(Said::Picture(*places));
            *places += 1;
        }
        let part = part.trim();
        if !part.is_empty() {
            pieces.push(Said::Text(part.to_string()));
        }
    }
    pieces
}

fn places_in(turns: &[Turn]) -> usize {
    let pieces = turns.iter().flat_map(|turn| &turn.said);
    pieces
        .filter(|piece| matches!(piece, Said::Picture(_)))
        .count()
}

fn in_turn(turns: &[Turn]) -> Result<(), String> {
    let wanted = [Speaker::Human, Speaker::Model];
    match turns
        .iter()
        .enumerate()
        .all(|(at, turn)| turn.speaker == wanted[at % 2])
    {
        true => Ok(()),
        false => Err("samples in which someone speaks twice in a row".into()),
    }
}

//! The data hash of a set of conversations: another turn is other data.

use glassbox_prelude::data::Conversations;
use glassbox_prelude::train::TrainingSet;
use glassbox_prelude::vision::Image;
use glassbox_prelude::{Error, Result};
use std::collections::BTreeMap;

use super::folder;

fn hash(turns: &[(&str, &str)], others: &str) -> Result<String> {
    let at = folder()?;
    let failed = |source| Error::Io {
        path: at.path().to_path_buf(),
        source,
    };
    for name in ["a.png", "b.png"] {
        let picture = Image::filled(4, 4, [9, 8, 7])?.to_png()?;
        std::fs::write(at.path().join(name), picture).map_err(failed)?;
    }
    let turns = turns
        .iter()
        .map(|(from, value)| format!("{{\"from\": {from:?}, \"value\": {value:?}}}"));
    let turns: Vec<String> = turns.collect();
    let text = format!(
        "[{{\"id\": \"one\", \"image\": \"a.png\", \"conversations\": [{}]}}{others}]",
        turns.join(", ")
    );
    let file = at.path().join("llava.json");
    std::fs::write(&file, text).map_err(failed)?;
    let set = Conversations::open(&file, at.path())?;
    let hash = set.fingerprint();
    hash.ok_or_else(|| Error::Input("a set of conversations has a hash".into()))
}

#[test]
fn the_hash_of_conversations_changes_with_every_turn() -> Result<()> {
    let turns = [
        ("system", "Be short."),
        ("human", "<image>\nWhat is it?"),
        ("gpt", "A cat."),
        ("human", "Which colour?"),
        ("gpt", "Grey."),
    ];
    let plain = hash(&turns, "")?;
    assert_eq!(hash(&turns, "")?, plain, "the same data, elsewhere");
    let mut seen = BTreeMap::from([(plain, "as it was".to_owned())]);
    let mut differs = |what: String, hash: String| {
        if let Some(other) = seen.insert(hash, what.clone()) {
            panic!("{what} has the hash of {other}");
        }
    };
    for at in 0..turns.len() {
        let mut other = turns;
        let words = format!("{} Indeed.", other[at].1);
        other[at].1 = &words;
        differs(format!("turn {at} with another word"), hash(&other, "")?);
        let mut other = turns;
        let words = other[at].1.to_lowercase();
        other[at].1 = &words;
        differs(format!("turn {at} in small letters"), hash(&other, "")?);
    }
    differs("without the system's turn".into(), hash(&turns[1..], "")?);
    differs("without the last pair".into(), hash(&turns[..3], "")?);
    let mut swapped = turns;
    swapped.swap(2, 4);
    differs("with two answers swapped".into(), hash(&swapped, "")?);
    let mut moved = turns;
    (moved[2].1, moved[3].1) = ("A cat", ". Which colour?");
    differs(
        "with a mark that moved to the next turn".into(),
        hash(&moved, "")?,
    );
    let other = r#", {"id": "two", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}"#;
    differs(
        "with another conversation behind it".into(),
        hash(&turns, other)?,
    );
    // The same turns in one conversation or in two.
    let two = r#", {"id": "two", "conversations": [{"from": "human", "value": "Which colour?"}, {"from": "gpt", "value": "Grey."}]}"#;
    differs("cut into two conversations".into(), hash(&turns[..3], two)?);
    Ok(())
}

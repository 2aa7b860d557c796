//! Random edits of bytes, of JSON and of safetensors files that know what they edit.

use glassbox_prelude::serde_json::{self, Value, json};
use proptest::prelude::*;
use proptest::sample::Index;

/// A change of a few bytes somewhere in a file.
#[derive(Clone, Debug)]
pub enum Edit {
    Flip(Index, u8),
    Set(Index, u8),
    /// A number of 1, 2, 4 or 8 bytes in either order.
    Number(Index, u64, u8, bool),
    Cut(Index),
    Remove(Index, u8),
    Insert(Index, Vec<u8>),
    /// Copies a stretch to another place.
    Copy(Index, Index, u8),
}

/// Numbers near which code tends to break.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        0..300u64,
        (0..64u32).prop_map(|bit| 1 << bit),
        (0..64u32).prop_map(|bit| (1 << bit) - 1),
        any::<u64>(),
    ]
}

pub fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        2 => (at(), any::<u8>()).prop_map(|(at, value)| Edit::Set(at, value)),
        4 => (at(), number(), 0..4u8, any::<bool>()).prop_map(|(at, n, size, big)| Edit::Number(at, n, size, big)),
        1 => at().prop_map(Edit::Cut),
        1 => (at(), any::<u8>()).prop_map(|(at, count)| Edit::Remove(at, count)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        1 => (at(), at(), any::<u8>()).prop_map(|(from, to, count)| Edit::Copy(from, to, count)),
    ]
}

pub fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec(edit(), 1..5)
}

/// As [`edits`], within the first `header` bytes, where a format keeps its sizes.
pub fn apply_within(bytes: &mut Vec<u8>, header: usize, edits: &[Edit]) {
    let mut tail = bytes.split_off(header.min(bytes.len()));
    apply(bytes, edits);
    bytes.append(&mut tail);
}

pub fn apply(bytes: &mut Vec<u8>, edits: &[Edit]) {
    for edit in edits {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match edit {
            Edit::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Edit::Set(at, value) => bytes[at.index(length)] = *value,
            Edit::Number(at, number, size, big) => {
                let (at, size) = (at.index(length), 1usize << size);
                let encoded = if *big {
                    number.to_be_bytes()[8 - size..].to_vec()
                } else {
                    number.to_le_bytes()[..size].to_vec()
                };
                for (place, byte) in bytes[at..].iter_mut().zip(encoded) {
                    *place = byte;
                }
            }
            Edit::Cut(at) => bytes.truncate(at.index(length)),
            Edit::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..(at + usize::from(*count)).min(length));
            }
            Edit::Insert(at, new) => {
                let at = at.index(length);
                bytes.splice(at..at, new.iter().copied());
            }
            Edit::Copy(from, to, count) => {
                let (from, to) = (from.index(length), to.index(length));
                let stretch = bytes[from..(from + usize::from(*count)).min(length)].to_vec();
                bytes.splice(to..to, stretch);
            }
        }
    }
}

/// A change of one place in a JSON document.
#[derive(Clone, Debug)]
pub enum JsonEdit {
    Replace(Index, Value),
    Remove(Index),
    Rename(Index, String),
    /// Puts the value of one place into another.
    Move(Index, Index),
    /// Repeats the entries of a list.
    Repeat(Index),
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number().prop_map(Value::from),
        (-300i64..300).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just(1e308), Just(-1e308), Just(1e-320), Just(-0.0)].prop_map(Value::from),
        "[a-z_<>|/.{}%]{0,12}".prop_map(Value::from),
        "\\PC{0,4}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
    ];
    prop_oneof![
        8 => leaf.clone(),
        1 => prop::collection::vec(leaf, 0..4).prop_map(Value::from),
    ]
}

pub fn json_edits() -> impl Strategy<Value = Vec<JsonEdit>> {
    let at = any::<Index>;
    let edit = prop_oneof![
        6 => (at(), value()).prop_map(|(at, value)| JsonEdit::Replace(at, value)),
        2 => at().prop_map(JsonEdit::Remove),
        1 => (at(), "[a-z_.0-9]{0,8}").prop_map(|(at, name)| JsonEdit::Rename(at, name)),
        1 => (at(), at()).prop_map(|(from, to)| JsonEdit::Move(from, to)),
        1 => at().prop_map(JsonEdit::Repeat),
    ];
    prop::collection::vec(edit, 1..4)
}

/// Pointers (RFC 6901) to every place, the document itself first.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_string());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate().take(40) {
                places(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

pub fn edit_json(document: &mut Value, edits: &[JsonEdit]) {
    for edit in edits {
        let mut all = Vec::new();
        places(document, "", &mut all);
        let place = |at: &Index| all[at.index(all.len())].clone();
        match edit {
            JsonEdit::Replace(at, value) => {
                if let Some(old) = document.pointer_mut(&place(at)) {
                    *old = value.clone();
                }
            }
            JsonEdit::Move(from, to) => {
                let value = document.pointer(&place(from)).cloned().unwrap_or_default();
                if let Some(old) = document.pointer_mut(&place(to)) {
                    *old = value;
                }
            }
            JsonEdit::Repeat(at) => {
                if let Some(Value::Array(list)) = document.pointer_mut(&place(at)) {
                    list.extend_from_within(..);
                }
            }
            JsonEdit::Remove(at) => take(document, &place(at)),
            JsonEdit::Rename(at, name) => {
                let at = place(at);
                let value = document.pointer(&at).cloned().unwrap_or_default();
                take(document, &at);
                let parent = at.rsplit_once('/').map_or("", |(parent, _)| parent);
                if let Some(Value::Object(map)) = document.pointer_mut(parent) {
                    map.insert(name.clone(), value);
                }
            }
        }
    }
}

fn take(document: &mut Value, place: &str) {
    let Some((parent, key)) = place.rsplit_once('/') else {
        return;
    };
    let key = key.replace("~1", "/").replace("~0", "~");
    match document.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.remove(&key);
        }
        Some(Value::Array(list)) => {
            if let Ok(index) = key.parse::<usize>()
                && index < list.len()
            {
                list.remove(index);
            }
        }
        _ => {}
    }
}

/// Edits of a text file that holds JSON: of the document, and rarely of its bytes.
#[derive(Clone, Debug)]
pub struct TextEdits {
    document: Vec<JsonEdit>,
    bytes: Option<Vec<Edit>>,
}

pub fn text_edits() -> impl Strategy<Value = TextEdits> {
    (
        json_edits(),
        prop_oneof![5 => Just(None), 1 => edits().prop_map(Some)],
    )
        .prop_map(|(document, bytes)| TextEdits { document, bytes })
}

pub fn edited_text(original: &Value, edits: &TextEdits) -> Vec<u8> {
    let mut document = original.clone();
    edit_json(&mut document, &edits.document);
    let mut bytes = document.to_string().into_bytes();
    if let Some(edits) = &edits.bytes {
        apply(&mut bytes, edits);
    }
    bytes
}

/// A safetensors file whose header is edited as JSON (its length stays true), or whose bytes are.
#[derive(Clone, Debug)]
pub enum WeightEdits {
    Header(Vec<JsonEdit>),
    /// Within the header and a little behind it.
    Start(Vec<Edit>),
    Anywhere(Vec<Edit>),
    None,
}

pub fn weight_edits() -> impl Strategy<Value = WeightEdits> {
    prop_oneof![
        3 => json_edits().prop_map(WeightEdits::Header),
        2 => edits().prop_map(WeightEdits::Start),
        1 => edits().prop_map(WeightEdits::Anywhere),
        1 => Just(WeightEdits::None),
    ]
}

pub fn edited_weights(original: &[u8], edits: &WeightEdits) -> Vec<u8> {
    let mut length = [0u8; 8];
    length.copy_from_slice(&original[..8]);
    let data = 8 + u64::from_le_bytes(length) as usize;
    let mut bytes = original.to_vec();
    match edits {
        WeightEdits::None => {}
        WeightEdits::Start(edits) => apply_within(&mut bytes, data + 16, edits),
        WeightEdits::Anywhere(edits) => apply(&mut bytes, edits),
        WeightEdits::Header(edits) => {
            let mut header: Value =
                serde_json::from_slice(&original[8..data]).expect("a fixture's header is JSON");
            edit_json(&mut header, edits);
            let header = header.to_string();
            bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&original[data..]);
        }
    }
    bytes
}

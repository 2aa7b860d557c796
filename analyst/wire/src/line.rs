//! Orders and answers as lines of JSON.

use std::io::{self, BufRead, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes one, and passes it on at once.
///
/// # Errors
/// The other side is gone.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one; `None` when the other side has ended.
///
/// # Errors
/// What came is none.
pub fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    match from.read_until(b'\n', &mut line)? {
        0 => Ok(None),
        _ => Ok(Some(serde_json::from_slice(&line)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answer, Completion, Completions, Order, Page, Question, Subject};

    #[test]
    fn what_is_sent_is_received() {
        let order = Order::Ask(
            Page {
                text: "fn f() {\n\"é\\n\"\n}".to_owned(),
                start: 9,
                code: "\"é\\n\"".to_owned(),
                cursor: 3,
            },
            Question::Inspect(Subject {
                name: Some(1..2),
                callee: None,
            }),
        );
        let mut bytes = Vec::new();
        send(&mut bytes, &order).unwrap();
        send(&mut bytes, &Order::Tidy).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(receive::<Order>(&mut from).unwrap(), Some(order));
        assert_eq!(receive::<Order>(&mut from).unwrap(), Some(Order::Tidy));
        assert_eq!(receive::<Order>(&mut from).unwrap(), None);
    }

    #[test]
    fn kinds_are_jupyters_words_and_no_others() {
        let answer = |kind| {
            Answer::Completions(Completions {
                items: vec![Completion {
                    kind,
                    ..Completion::default()
                }],
                ..Completions::default()
            })
        };
        let mut bytes = Vec::new();
        send(&mut bytes, &answer("class")).unwrap();
        assert_eq!(
            receive(&mut bytes.as_slice()).unwrap(),
            Some(answer("class"))
        );
        bytes.clear();
        send(&mut bytes, &answer("word")).unwrap();
        assert!(receive::<Answer>(&mut bytes.as_slice()).is_err());
    }
}

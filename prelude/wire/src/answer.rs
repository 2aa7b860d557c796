//! Answers to what cells ask for, a line of JSON each, in a named pipe of the session's folder.

use serde::{Deserialize, Serialize};

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The number of the question.
    pub id: u64,
    /// The line that was typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Answer {
    /// The answer to question `id`: a line, or why there is none.
    pub fn new(id: u64, answer: Result<String, String>) -> Answer {
        let (value, refused) = match answer {
            Ok(value) => (Some(value), None),
            Err(why) => (None, Some(why)),
        };
        Answer { id, value, refused }
    }

    /// The line, or why there is none.
    pub fn into_result(self) -> Result<String, String> {
        self.value
            .ok_or_else(|| self.refused.unwrap_or_else(|| "no answer came".to_owned()))
    }

    /// The answer as a line, with its end.
    pub fn to_line(&self) -> String {
        // Numbers and text are what JSON has, so this does not fail.
        format!("{}\n", serde_json::to_string(self).unwrap_or_default())
    }

    /// Reads a line; `None` for what is no answer.
    pub fn parse(line: &[u8]) -> Option<Answer> {
        serde_json::from_slice(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_back() {
        for answer in [Ok("two\nlines é".to_owned()), Err("nobody".to_owned())] {
            let line = Answer::new(7, answer.clone()).to_line();
            assert_eq!(line.matches('\n').count(), 1);
            let read = Answer::parse(line.as_bytes()).expect("it is an answer");
            assert_eq!((read.id, read.into_result()), (7, answer));
        }
        assert_eq!(Answer::parse(b"text"), None);
    }
}

//! Questions of a running cell to the client that sent it: `input_request` out, `input_reply` back.
//!
//! The answer can come from that client only, and only if it said so with `allow_stdin`. While the cell waits, an
//! interrupt or the kernel's end is an answer too.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde_json::{Value, json};

use super::iopub::Outbox;
use super::wire::{Replies, Request, log};
use crate::session::{InputReader, InputRequest};

/// How often a waiting cell looks whether it still shall wait.
const LOOK: Duration = Duration::from_millis(50);

/// The stdin socket, as the worker uses it.
#[derive(Clone)]
pub struct Stdin {
    /// Questions.
    pub questions: Replies,
    /// Answers, and whatever else clients send there.
    pub answers: Receiver<Request>,
}

impl Stdin {
    /// Answers for the cell `cause`; `given_up` tells whether nobody waits for the answer any more.
    pub fn reader(
        &self,
        cause: &Arc<Request>,
        outbox: &Outbox,
        given_up: impl Fn() -> bool + Send + 'static,
    ) -> InputReader {
        let (stdin, cause, outbox) = (self.clone(), cause.clone(), outbox.clone());
        Box::new(move |question| stdin.ask(&cause, &outbox, question, &given_up))
    }

    fn ask(
        &self,
        cause: &Request,
        outbox: &Outbox,
        question: &InputRequest,
        given_up: &dyn Fn() -> bool,
    ) -> Result<String, String> {
        if !cause.flag("allow_stdin", false) {
            return Err("the client that runs this cell takes no input (allow_stdin)".to_owned());
        }
        // What the cell printed before it asks stands above the question.
        outbox.flush_from_thread();
        // An answer to a question that was given up is an answer to nothing.
        while self.answers.try_recv().is_ok() {}
        let content = json!({ "prompt": question.prompt, "password": question.password });
        let ask = || {
            self.questions
                .ask(cause.ask("input_request", content.clone()))
        };
        let mut asked = ask();
        if !asked {
            log(
                "a cell asks for input, and the client that runs it is not on stdin: it is asked once it is",
            );
        }
        loop {
            match self.answers.recv_timeout(LOOK) {
                Ok(answer) if answer.kind() != "input_reply" => {}
                // It may come from whoever has the key: only the one who runs the cell was asked.
                Ok(answer) if !answer.from.same_client(&cause.from) => {
                    log("an answer on stdin is left out: its client was not asked");
                }
                Ok(answer) => {
                    return match answer.flaw() {
                        Some(why) => Err(format!("the client's answer is not understood: {why}")),
                        None => value(&answer.content),
                    };
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the kernel is ending".to_owned());
                }
                Err(RecvTimeoutError::Timeout) if given_up() => {
                    return Err("the cell was interrupted".to_owned());
                }
                Err(RecvTimeoutError::Timeout) => asked = asked || ask(),
            }
        }
    }
}

fn value(content: &Value) -> Result<String, String> {
    let typed = content.get("value").and_then(Value::as_str);
    typed
        .map(str::to_owned)
        .ok_or_else(|| "the client sent an answer without a value".to_owned())
}

//! Reads what the child process writes: the one reader of event frames.
//!
//! ```text
//! bytes of fd 1 ──▶ Decoder ──▶ text as it came │ frames: ESC _ GBX nonce ; length ; JSON ESC \
//! ```
//! Only frames with the session's nonce are events; everything else is the user's text, control characters included.
//! Text between `EVCXR_BEGIN_CONTENT mime` and `EVCXR_END_CONTENT` lines is shown too: that is how crates made for evcxr do it. Where the
//! value of a cell's last expression does so, all blocks together are the cell's result. They are told apart from text that merely looks like
//! them, which a cell may print from a file or the web: only between frames that say that a value shows itself are they more than text.
//!
//! A line `EVCXR_INPUT_REQUEST:prompt` is how such crates ask for a line of text, but only if standard input is read after it: the
//! line waits for that, is text if something else comes, and the question is forgotten when the cell ends.

use std::time::Duration;

use glassbox_wire as wire;
use glassbox_wire::Passed;
use glassbox_wire::evcxr::{BEGIN_CONTENT, END_CONTENT, QUESTION, SECRET_QUESTION};
use glassbox_wire::frame::{self, Frame};
use serde_json::Value;

use crate::session::event::{Display, Event, InputRequest, StreamName};

/// One thing read from the child.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Incoming {
    /// For the front end.
    Event(Event),
    /// Something shown in evcxr's way, which is a display, or the cell's result if nothing follows.
    Content(Display),
    /// Code panicked, in any thread; whether the cell failed is said by `Ended`.
    Panic(PanicReport),
    /// A `?` of the cell met an error.
    Error {
        /// The error's message.
        message: String,
        /// The messages of its sources.
        chain: Vec<String>,
        /// The places in functions of cells that it passed, innermost first.
        trail: Vec<Passed>,
    },
    /// The cell finishes something before it stops, which may take so long; no time at all if it is done.
    Stopping {
        /// From now.
        time: Duration,
        /// What it does.
        what: String,
    },
    /// The cell waits for a line of text.
    Input {
        /// The number of the question.
        id: u64,
        /// The question.
        request: InputRequest,
    },
    /// The cell reads standard input, which is empty.
    Stdin {
        /// The number of the read.
        id: u64,
        /// The question that it printed before.
        request: Option<InputRequest>,
    },
    /// It comes from a thread that an earlier cell began, the one with this number.
    Of(u64, Box<Incoming>),
    /// The child began to run a cell's code.
    Began,
    /// The cell's code returned.
    Ended {
        /// Its panic was caught by the code around the cell.
        panicked: bool,
        /// A `?` ended it.
        failed: bool,
        /// The error of that `?` says that the user interrupted.
        interrupted: bool,
        /// Line and column of that `?` in the generated source.
        failed_at: Option<(usize, usize)>,
    },
}

/// What the panic hook knew.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PanicReport {
    pub message: String,
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// `main` for the one that runs cells.
    pub thread: String,
    /// The file of the library that the code is in.
    pub library: String,
    pub backtrace: Vec<String>,
}

/// A longer line is text.
const LONGEST_QUESTION: usize = 16 * 1024;
/// So many questions may wait for who reads their answers: several threads may ask at once.
const MOST_QUESTIONS: usize = 16;

/// Turns the bytes of one stream into [`Incoming`] values, whatever the sizes in which they arrive.
pub(crate) struct Decoder {
    stream: StreamName,
    /// What frames begin with.
    prefix: Vec<u8>,
    /// Not yet understood: the beginning of a frame.
    buffer: Vec<u8>,
    /// The first bytes of a character whose rest has not arrived.
    partial_char: Vec<u8>,
    content: Content,
    /// Questions after which nobody has read yet.
    questions: Vec<InputRequest>,
    /// The cell whose thread writes now, if it is not the one that runs.
    of: Option<u64>,
    /// [`Decoder::partial_char`] of the others.
    other_char: Vec<u8>,
}

/// Where we are with regard to lines of evcxr's.
struct Content {
    at_line_start: bool,
    /// A line that may turn out to be the beginning of a block, or a question whose answer may be read at once.
    held: String,
    /// The open block: MIME type and lines so far, the last one possibly partial.
    open: Option<(String, String)>,
    /// The blocks of the value that is showing itself.
    value: Option<Display>,
    /// How many calls of the cell's own do so.
    by_hand: usize,
}

impl Content {
    /// Whether blocks are more than text now.
    fn shows(&self) -> bool {
        self.value.is_some() || self.by_hand > 0
    }
}

impl Decoder {
    pub(crate) fn new(stream: StreamName, nonce: &str) -> Decoder {
        Decoder {
            stream,
            prefix: frame::prefix(nonce),
            buffer: Vec::new(),
            partial_char: Vec::new(),
            content: Content {
                at_line_start: true,
                held: String::new(),
                open: None,
                value: None,
                by_hand: 0,
            },
            questions: Vec::new(),
            of: None,
            other_char: Vec::new(),
        }
    }

    /// Takes in what was read.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<Incoming>) {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        let mut text_end = 0;
        while text_end < rest.len() {
            let Some(escape) = rest[text_end..].iter().position(|&b| b == 0x1b) else {
                text_end = rest.len();
                break;
            };
            text_end += escape;
            match frame::read(&rest[text_end..], &self.prefix) {
                Frame::None => text_end += 1,
                Frame::Incomplete => {
                    self.text(&rest[..text_end], out);
                    let begin = buffer.len() - rest.len() + text_end;
                    // A display of many megabytes comes in many pieces, and is not copied for each.
                    self.buffer = match begin {
                        0 => buffer,
                        begin => buffer[begin..].to_vec(),
                    };
                    return;
                }
                Frame::Complete { payload, length } => {
                    self.text(&rest[..text_end], out);
                    self.frame(payload, out);
                    rest = &rest[text_end + length..];
                    text_end = 0;
                }
            }
        }
        self.text(&rest[..text_end], out);
    }

    /// The cell is over; its process goes on, and with it threads that may be in the middle of a frame.
    pub(crate) fn finish_cell(&mut self, out: &mut Vec<Incoming>) {
        let of = self.of;
        let underway = of.is_some() || self.buffer.starts_with(&self.prefix);
        let rest = if underway {
            std::mem::take(&mut self.buffer)
        } else {
            Vec::new()
        };
        self.turn_to(None);
        self.finish_texts(out);
        self.buffer = rest;
        self.turn_to(of);
    }

    /// The process is gone: what was waited for does not come any more.
    pub(crate) fn finish(&mut self, out: &mut Vec<Incoming>) {
        self.finish_texts(out);
        self.turn_to(None);
        self.other_char.clear();
    }

    /// What comes next is of the cell with this number, or of the one that runs.
    fn turn_to(&mut self, of: Option<u64>) {
        if of.is_some() != self.of.is_some() {
            std::mem::swap(&mut self.partial_char, &mut self.other_char);
        }
        self.of = of;
    }

    fn finish_texts(&mut self, out: &mut Vec<Incoming>) {
        let rest = std::mem::take(&mut self.buffer);
        self.text(&rest, out);
        let partial = std::mem::take(&mut self.partial_char);
        self.content_text(&String::from_utf8_lossy(&partial), out);
        self.finish_line(out);
        self.close_block(out);
        self.finish_value(out);
        self.content.by_hand = 0;
        self.content.at_line_start = true;
        self.questions.clear();
    }

    /// A block whose end has not come is text.
    fn close_block(&mut self, out: &mut Vec<Incoming>) {
        if let Some((mime, body)) = self.content.open.take() {
            self.content.at_line_start = body.is_empty() || body.ends_with('\n');
            self.emit(format!("{BEGIN_CONTENT}{mime}\n{body}"), out);
        }
    }

    /// What the value has shown of itself is the cell's result.
    fn finish_value(&mut self, out: &mut Vec<Incoming>) {
        let value = self.content.value.take();
        if let Some(value) = value.filter(|value| !value.data.is_empty()) {
            self.push(Incoming::Event(Event::Result(value)), out);
        }
    }

    fn frame(&mut self, payload: &[u8], out: &mut Vec<Incoming>) {
        let event = wire::Event::from_json(payload);
        if let Some(wire::Event::Of { cell }) = event {
            return self.turn_to(Some(cell).filter(|&cell| cell > 0));
        }
        if self.of.is_none() {
            if let Some(wire::Event::Stdin { .. }) = event {
                self.drop_question_line();
            }
            self.finish_line(out);
        }
        // Whatever a newer prelude may say.
        let Some(event) = event else { return };
        let incoming = match event {
            wire::Event::Showing { .. } | wire::Event::ByHand { .. } if self.of.is_some() => return,
            wire::Event::ByHand { begins } => {
                self.content.by_hand = match begins {
                    true => self.content.by_hand + 1,
                    false => self.content.by_hand.saturating_sub(1),
                };
                if !self.content.shows() {
                    self.close_block(out);
                }
                return;
            }
            wire::Event::Showing { begins } => {
                self.close_block(out);
                self.finish_value(out);
                self.content.value = begins.then(Display::default);
                return;
            }
            wire::Event::Display { bundle, display_id } => {
                Incoming::Event(Event::Display(display(bundle, display_id)))
            }
            wire::Event::Update { bundle, display_id } => {
                Incoming::Event(Event::Update(display(bundle, Some(display_id))))
            }
            wire::Event::Result { bundle } => Incoming::Event(Event::Result(display(bundle, None))),
            wire::Event::Clear { wait } => Incoming::Event(Event::ClearOutput { wait }),
            wire::Event::Comm(comm) => Incoming::Event(Event::Comm(comm)),
            wire::Event::Panic(report) => Incoming::Panic(report.into()),
            wire::Event::Error {
                message,
                chain,
                trail,
            } => Incoming::Error {
                message,
                chain,
                trail,
            },
            wire::Event::Stopping { milliseconds, what } => Incoming::Stopping {
                time: Duration::from_millis(milliseconds),
                what,
            },
            wire::Event::Input {
                id,
                prompt,
                password,
            } => Incoming::Input {
                id,
                request: InputRequest { prompt, password },
            },
            wire::Event::Stdin { id } => Incoming::Stdin {
                id,
                // The last one: those before it may be text that merely looked like questions.
                request: self.questions.pop(),
            },
            wire::Event::Began => Incoming::Began,
            wire::Event::Ended {
                panicked,
                failed,
                interrupted,
                line,
                column,
            } => Incoming::Ended {
                panicked,
                failed,
                interrupted,
                failed_at: (line > 0).then_some((line as usize, column as usize)),
            },
            wire::Event::CellEnd { .. } | wire::Event::Of { .. } => return,
        };
        self.push(incoming, out);
    }

    fn push(&self, incoming: Incoming, out: &mut Vec<Incoming>) {
        out.push(match self.of {
            Some(cell) => Incoming::Of(cell, Box::new(incoming)),
            None => incoming,
        });
    }

    /// Decodes UTF-8, keeping a character that is not complete for the next time.
    fn text(&mut self, bytes: &[u8], out: &mut Vec<Incoming>) {
        if bytes.is_empty() {
            return;
        }
        let mut joined = std::mem::take(&mut self.partial_char);
        joined.extend_from_slice(bytes);
        let complete = match std::str::from_utf8(&joined) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            // An invalid sequence may be followed by an incomplete one at the very end.
            _ => joined.len() - incomplete_tail(&joined),
        };
        self.partial_char = joined[complete..].to_vec();
        self.content_text(&String::from_utf8_lossy(&joined[..complete]), out);
    }

    /// Passes text on, except for content blocks, which become displays, and questions that are read for.
    fn content_text(&mut self, text: &str, out: &mut Vec<Incoming>) {
        if self.stream == StreamName::Stderr || self.of.is_some() {
            self.emit(text.to_owned(), out);
            return;
        }
        let mut plain = String::new();
        for piece in text.split_inclusive('\n') {
            if let Some((mime, body)) = &mut self.content.open {
                body.push_str(piece);
                let ended = body.ends_with('\n')
                    && body.trim_end_matches('\n').lines().next_back() == Some(END_CONTENT);
                if ended {
                    let end = body.trim_end_matches('\n').len() - END_CONTENT.len();
                    let content = body[..end]
                        .strip_suffix('\n')
                        .unwrap_or(&body[..end])
                        .to_owned();
                    let (mime, content) = (std::mem::take(mime), Value::String(content));
                    self.content.open = None;
                    self.content.at_line_start = true;
                    if let Some(value) = &mut self.content.value {
                        value.data.insert(mime, content);
                        continue;
                    }
                    let mut display = Display::default();
                    display.data.insert(mime, content);
                    self.emit(std::mem::take(&mut plain), out);
                    out.push(Incoming::Content(display));
                }
                continue;
            }
            if self.content.held.ends_with('\n') {
                plain.push_str(&std::mem::take(&mut self.content.held));
                self.content.at_line_start = true;
            }
            if self.content.at_line_start || !self.content.held.is_empty() {
                self.content.held.push_str(piece);
                let held = std::mem::take(&mut self.content.held);
                let shows = self.content.shows();
                if let Some(mime) = held.strip_prefix(BEGIN_CONTENT).filter(|_| shows) {
                    match mime.strip_suffix('\n') {
                        Some(mime) => {
                            self.content.open = Some((mime.trim().to_owned(), String::new()))
                        }
                        None => self.content.held = held,
                    }
                    continue;
                }
                let asked = question(&held);
                let begun = [BEGIN_CONTENT, QUESTION, SECRET_QUESTION];
                let begun = &begun[usize::from(!shows)..];
                if asked.is_some() || begun.iter().any(|mark| mark.starts_with(&held)) {
                    if let Some(request) = asked.filter(|_| held.ends_with('\n')) {
                        self.remember(request);
                    }
                    self.content.held = held;
                    continue;
                }
                self.content.at_line_start = held.ends_with('\n');
                plain.push_str(&held);
            } else {
                self.content.at_line_start = piece.ends_with('\n');
                plain.push_str(piece);
            }
        }
        self.emit(plain, out);
    }

    /// Something else comes: a held line is text after all.
    fn finish_line(&mut self, out: &mut Vec<Incoming>) {
        let held = std::mem::take(&mut self.content.held);
        if !held.is_empty() {
            self.content.at_line_start = held.ends_with('\n');
            self.emit(held, out);
        }
    }

    fn remember(&mut self, request: InputRequest) {
        self.questions.push(request);
        if self.questions.len() > MOST_QUESTIONS {
            self.questions.remove(0);
        }
    }

    /// A question is shown by who asks it.
    fn drop_question_line(&mut self) {
        if self.content.held.ends_with('\n') {
            self.content.held.clear();
            self.content.at_line_start = true;
        }
    }

    fn emit(&self, text: String, out: &mut Vec<Incoming>) {
        if !text.is_empty() {
            let event = Event::Stream {
                name: self.stream,
                text,
            };
            self.push(Incoming::Event(event), out);
        }
    }
}

/// How many bytes at the end are the beginning of a character.
fn incomplete_tail(bytes: &[u8]) -> usize {
    (1..=3.min(bytes.len()))
        .find(|&n| {
            let tail = &bytes[bytes.len() - n..];
            tail[0] >= 0xc0
                && matches!(std::str::from_utf8(tail), Err(error) if error.error_len().is_none())
        })
        .unwrap_or(0)
}

/// What a line, or its beginning, asks for.
fn question(line: &str) -> Option<InputRequest> {
    let (prompt, password) = match line.strip_prefix(QUESTION) {
        Some(prompt) => (prompt, false),
        None => (line.strip_prefix(SECRET_QUESTION)?, true),
    };
    (line.len() <= LONGEST_QUESTION).then(|| InputRequest {
        prompt: prompt.trim_end_matches('\n').to_owned(),
        password,
    })
}

fn display(bundle: wire::Bundle, display_id: Option<String>) -> Display {
    Display {
        data: bundle.data,
        metadata: bundle.metadata,
        display_id,
    }
}

impl From<wire::PanicReport> for PanicReport {
    fn from(report: wire::PanicReport) -> PanicReport {
        PanicReport {
            message: report.message,
            file: report.file,
            line: report.line as usize,
            column: report.column as usize,
            thread: report.thread,
            library: report.library,
            backtrace: report.backtrace.lines().map(str::to_owned).collect(),
        }
    }
}

/// The bytes without the frames in them, whose prefix this is; one that is not complete is left out to the end.
pub(crate) fn without_frames(bytes: &[u8], prefix: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut allowed = Vec::new();
    while let Some(at) = rest
        .windows(prefix.len())
        .position(|window| window == prefix)
    {
        allowed.extend_from_slice(&rest[..at]);
        rest = match frame::read(&rest[at..], prefix) {
            Frame::Complete { length, .. } => &rest[at + length..],
            Frame::Incomplete | Frame::None => &[],
        };
    }
    allowed.extend_from_slice(rest);
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(nonce: &str, payload: &str) -> String {
        format!("\x1b_GBX{nonce};{};{payload}\x1b\\", payload.len())
    }

    /// Feeds the same bytes in every chunk size and joins neighbouring text, so that chunking can't matter.
    fn decode_all_ways(bytes: &[u8]) -> Vec<Incoming> {
        let whole = decode(bytes, bytes.len().max(1));
        for size in 1..bytes.len() {
            assert_eq!(decode(bytes, size), whole, "chunks of {size}");
        }
        whole
    }

    fn decode(bytes: &[u8], size: usize) -> Vec<Incoming> {
        let mut decoder = Decoder::new(StreamName::Stdout, "n0nce");
        let mut out = Vec::new();
        for chunk in bytes.chunks(size) {
            decoder.feed(chunk, &mut out);
        }
        decoder.finish(&mut out);
        let mut joined: Vec<Incoming> = Vec::new();
        for item in out {
            if let (
                Some(Incoming::Event(Event::Stream { text: before, .. })),
                Incoming::Event(Event::Stream { text, .. }),
            ) = (joined.last_mut(), &item)
            {
                before.push_str(text);
            } else {
                joined.push(item);
            }
        }
        joined
    }

    fn stdout(text: &str) -> Incoming {
        Incoming::Event(Event::Stream {
            name: StreamName::Stdout,
            text: text.to_owned(),
        })
    }

    #[test]
    fn a_text_without_its_frames() {
        let frame = frame::write(&wire::Event::Began, "secret");
        let other = frame::write(&wire::Event::Began, "another");
        let prefix = frame::prefix("secret");
        let written = [
            b"one ",
            &frame[..],
            b"two",
            &frame,
            &frame,
            &other,
            b" three",
        ]
        .concat();
        let left = [b"one two", &other[..], b" three"].concat();
        assert_eq!(without_frames(&written, &prefix), left);
        let cut = [b"one ", &frame[..frame.len() - 1]].concat();
        assert_eq!(without_frames(&cut, &prefix), b"one ");
    }

    #[test]
    fn text_and_frames_keep_their_order() {
        let input = format!(
            "one\r{}two é…{}",
            frame(
                "n0nce",
                r#"{"event":"display","data":{"text/plain":"x"},"display_id":"d"}"#
            ),
            frame("n0nce", r#"{"event":"clear","wait":true}"#)
        );
        let mut display = Display::text("x");
        display.display_id = Some("d".to_owned());
        assert_eq!(
            decode_all_ways(input.as_bytes()),
            [
                stdout("one\r"),
                Incoming::Event(Event::Display(display)),
                stdout("two é…"),
                Incoming::Event(Event::ClearOutput { wait: true })
            ]
        );
    }

    #[test]
    fn a_frame_with_another_nonce_is_text() {
        let forged = frame("guess", r#"{"event":"clear","wait":false}"#);
        assert_eq!(decode_all_ways(forged.as_bytes()), [stdout(&forged)]);
    }

    #[test]
    fn a_frame_with_a_wrong_length_is_text() {
        for header in ["x;", ";", "99999999999;", "3;abcd"] {
            let input = format!("\x1b_GBXn0nce;{header} and more");
            assert_eq!(
                decode_all_ways(input.as_bytes()),
                [stdout(&input)],
                "{header}"
            );
        }
    }

    #[test]
    fn invalid_utf8_is_replaced_and_changes_nothing_else() {
        assert_eq!(
            decode_all_ways(b"a\xffb\xe2\x82"),
            [stdout("a\u{fffd}b\u{fffd}")]
        );
    }

    fn by_hand(begins: bool) -> String {
        frame(
            "n0nce",
            &format!(r#"{{"event":"by_hand","begins":{begins}}}"#),
        )
    }

    #[test]
    fn content_blocks_of_evcxr_are_told_from_text() {
        let block =
            "before\nEVCXR_BEGIN_CONTENT text/html\n<b>1</b>\n\n<i>2</i>\nEVCXR_END_CONTENT\n";
        assert_eq!(decode_all_ways(block.as_bytes()), [stdout(block)]);
        let input = format!("{}{block}{}after", by_hand(true), by_hand(false));
        let mut display = Display::default();
        display.data.insert(
            "text/html".to_owned(),
            Value::String("<b>1</b>\n\n<i>2</i>".to_owned()),
        );
        assert_eq!(
            decode_all_ways(input.as_bytes()),
            [
                stdout("before\n"),
                Incoming::Content(display),
                stdout("after")
            ]
        );
    }

    #[test]
    fn content_blocks_of_a_cell_s_value_are_its_result() {
        let block =
            |mime: &str| format!("EVCXR_BEGIN_CONTENT {mime}\n{mime}!\nEVCXR_END_CONTENT\n");
        let showing = |begins: bool| {
            frame(
                "n0nce",
                &format!(r#"{{"event":"showing","begins":{begins}}}"#),
            )
        };
        let (html, text) = (block("text/html"), block("text/plain"));
        let mut value = Display::text("text/plain!");
        value
            .data
            .insert("text/html".to_owned(), "text/html!".into());
        let result = Incoming::Event(Event::Result(value));
        let whole = format!("{}{html}note\n{text}{}", showing(true), showing(false));
        assert_eq!(
            decode_all_ways(whole.as_bytes()),
            [stdout("note\n"), result.clone()]
        );
        // One that shows nothing, and one that panics meanwhile.
        let cut = format!(
            "{}{}{}{html}{text}",
            showing(true),
            showing(false),
            showing(true)
        );
        assert_eq!(decode_all_ways(cut.as_bytes()), [result]);
    }

    #[test]
    fn an_unfinished_content_block_is_text() {
        let text = "EVCXR_BEGIN_CONTENT text/html\n<b>never closed\n";
        for ending in ["".to_owned(), by_hand(false)] {
            let input = format!("{}{text}{ending}", by_hand(true));
            assert_eq!(decode_all_ways(input.as_bytes()), [stdout(text)]);
        }
        assert_eq!(decode_all_ways(b"EVCXR_BEG"), [stdout("EVCXR_BEG")]);
    }

    fn of(cell: u64) -> String {
        frame("n0nce", &format!(r#"{{"event":"of","cell":{cell}}}"#))
    }

    #[test]
    fn what_threads_of_other_cells_write_is_told_apart() {
        let shown = frame("n0nce", r#"{"event":"display","data":{"text/plain":"x"}}"#);
        let (three, four, none) = (of(3), of(4), of(0));
        let bytes = format!(
            "own é{three}line é\n{shown}{none} goes on{four}EVCXR_BEGIN_CONTENT text/plain\n{none}\n"
        );
        let mut found: Vec<(u64, String)> = Vec::new();
        for incoming in decode(bytes.as_bytes(), 1) {
            let (cell, incoming) = match incoming {
                Incoming::Of(cell, incoming) => (cell, *incoming),
                incoming => (0, incoming),
            };
            let text = match incoming {
                Incoming::Event(Event::Stream { text, .. }) => text,
                Incoming::Event(Event::Display(_)) => "[shown]".to_owned(),
                other => panic!("{other:?}"),
            };
            match found.last_mut() {
                Some((last, before)) if *last == cell => before.push_str(&text),
                _ => found.push((cell, text)),
            }
        }
        let expected = [
            (0, "own é"),
            (3, "line é\n[shown]"),
            (0, " goes on"),
            (4, "EVCXR_BEGIN_CONTENT text/plain\n"),
            (0, "\n"),
        ];
        let expected = expected.map(|(cell, text)| (cell, text.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_cell_s_end_leaves_the_frames_of_threads_whole() {
        let shown = frame("n0nce", r#"{"event":"display","data":{"text/plain":"x"}}"#);
        let bytes = of(3) + &shown + &of(0);
        for cut in 1..bytes.len() {
            let mut decoder = Decoder::new(StreamName::Stdout, "n0nce");
            let mut out = Vec::new();
            decoder.feed(&bytes.as_bytes()[..cut], &mut out);
            if cut > 7 {
                // The session's secret has begun: it is no text.
                decoder.finish_cell(&mut out);
            }
            decoder.feed(&bytes.as_bytes()[cut..], &mut out);
            decoder.finish(&mut out);
            if cut > 12 {
                assert!(
                    matches!(out.as_slice(), [Incoming::Of(3, _)]),
                    "{cut}: {out:?}"
                );
            }
        }
    }

    fn reads(id: u64) -> String {
        frame("n0nce", &format!(r#"{{"event":"stdin","id":{id}}}"#))
    }

    fn stdin(id: u64, asked: Option<(&str, bool)>) -> Incoming {
        let request = asked.map(|(prompt, password)| InputRequest {
            prompt: prompt.to_owned(),
            password,
        });
        Incoming::Stdin { id, request }
    }

    #[test]
    fn a_line_of_evcxr_asks_for_what_is_read_after_it() {
        let input = format!(
            "one\nEVCXR_INPUT_REQUEST:a: b? \n{}two\nEVCXR_INPUT_REQUEST_PASSWORD:\n{}{}three\n",
            reads(1),
            reads(2),
            reads(3)
        );
        assert_eq!(
            decode_all_ways(input.as_bytes()),
            [
                stdout("one\n"),
                stdin(1, Some(("a: b? ", false))),
                stdout("two\n"),
                stdin(2, Some(("", true))),
                stdin(3, None),
                stdout("three\n"),
            ]
        );
    }

    #[test]
    fn a_question_that_nobody_reads_for_is_text() {
        let long = format!("EVCXR_INPUT_REQUEST:{}\n", "x".repeat(LONGEST_QUESTION));
        for input in [
            "EVCXR_INPUT_REQUEST:who? \nmore\n",
            "EVCXR_INPUT_REQUEST:one\nEVCXR_INPUT_REQUEST:two",
            "EVCXR_INPUT_REQUEST_PASS",
            "EVCXR_INPUT_REQUESTS:none\n",
            "in a line EVCXR_INPUT_REQUEST:who? \n",
            "EVCXR_INPUT_REQUEST:who? \nEVCXR_BEGIN_CONTENT text/html\nnever closed\n",
        ] {
            assert_eq!(decode_all_ways(input.as_bytes()), [stdout(input)]);
        }
        assert_eq!(decode(long.as_bytes(), 1), [stdout(&long)]);
        assert_eq!(decode(long.as_bytes(), long.len()), [stdout(&long)]);
        // Another thread's text may come between a question and the read, which is in a later cell no more.
        let asked = "EVCXR_INPUT_REQUEST:who? \nmore\n";
        let input = format!("{asked}{}", reads(7));
        let expected = [stdout(asked), stdin(7, Some(("who? ", false)))];
        assert_eq!(decode_all_ways(input.as_bytes()), expected);
        let mut decoder = Decoder::new(StreamName::Stdout, "n0nce");
        let mut out = Vec::new();
        decoder.feed(asked.as_bytes(), &mut out);
        decoder.finish(&mut out);
        out.clear();
        decoder.feed(reads(8).as_bytes(), &mut out);
        assert_eq!(out, [stdin(8, None)]);
    }

    #[test]
    fn control_lines_of_evcxr_are_text() {
        let input =
            "EVCXR_EXECUTION_COMPLETE\nEVCXR_PANIC_NOTIFICATION\nEVCXR_VARIABLE_CHANGED_TYPE:x\n";
        assert_eq!(decode_all_ways(input.as_bytes()), [stdout(input)]);
    }
}

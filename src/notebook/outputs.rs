//! Events of running cells → the `outputs` of the cells, as nbclient would write them.
//!
//! Text of one stream in a row is one output; a display with an id can be updated from any later cell; `clear_output`
//! empties the running cell at once or at its next output. `\r` stays in the text: whoever shows it obeys it.
//!
//! A cell that prints without end fills neither memory nor the file: of its text the beginning is kept, and the end behind a line that says how
//! much lies between; displays beyond a limit are named instead.

use std::collections::{BTreeSet, HashMap, VecDeque};

use serde_json::{Map, Value, json};

use super::document::{Notebook, lines};
use crate::figures::size as bytes;
use crate::session::{CellError, Display, Event};

/// Of a cell's text so many bytes are kept from its beginning.
const BEGINNING: usize = 4 << 20;
/// And so many from its end.
const ENDING: usize = 1 << 20;
/// What a cell's displays may have together, in bytes, as the file holds them.
const DISPLAYS: usize = 128 << 20;
/// What an output takes besides its text, about.
const OUTPUT: usize = 512;

/// How much a cell has shown.
#[derive(Debug, Default)]
struct Amount {
    text: usize,
    displays: usize,
    /// What was printed last of that which is too much, by stream.
    ending: VecDeque<(String, String)>,
    /// Its bytes.
    held: usize,
    /// What lies between the beginning and that, in bytes.
    between: usize,
    /// How many displays are missing.
    missing: usize,
}

impl Amount {
    /// Keeps the end of what is printed.
    fn hold(&mut self, name: &str, text: &str) {
        match self.ending.back_mut() {
            Some((last, whole)) if last == name && whole.len() < ENDING => whole.push_str(text),
            _ => self.ending.push_back((name.to_owned(), text.to_owned())),
        }
        self.held += text.len();
        while self.held > 2 * ENDING || self.ending.len() > ENDING / OUTPUT {
            let Some((_, text)) = self.ending.front_mut() else {
                break;
            };
            let over = self.held.saturating_sub(ENDING);
            let cut = match over < text.len() {
                true => text.ceil_char_boundary(over),
                false => text.len(),
            };
            self.between += cut;
            self.held -= cut;
            text.drain(..cut);
            if text.is_empty() || self.ending.len() > ENDING / OUTPUT {
                let rest = self.ending.pop_front().map_or(0, |(_, text)| text.len());
                self.between += rest;
                self.held -= rest;
            }
        }
    }
}

/// Writes outputs into a notebook while its cells run.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Index of the running cell.
    cell: usize,
    execution_count: u64,
    /// Where each display id was shown: cell, output.
    shown: HashMap<String, Vec<(usize, usize)>>,
    /// A `clear_output(wait)` is due at the next output.
    clear_due: bool,
    /// The cells that have begun, in order.
    begun: Vec<usize>,
    /// Cells that had ended when threads of theirs said something more.
    reopened: BTreeSet<usize>,
    /// What each cell has shown.
    amounts: HashMap<usize, Amount>,
}

impl Recorder {
    /// A cell starts: its old outputs go.
    pub fn begin(&mut self, notebook: &mut Notebook, cell: usize, execution_count: u64) {
        self.begun.push(cell);
        self.cell = cell;
        self.execution_count = execution_count;
        self.clear_due = false;
        self.amounts.remove(&cell);
        notebook.cells_mut()[cell].set_outputs(Vec::new(), Some(execution_count));
    }

    /// Records what the running cell shows.
    pub fn event(&mut self, notebook: &mut Notebook, event: &Event) {
        match event {
            Event::Stream { name, text } => self.stream(notebook, name.as_str(), text),
            Event::Display(display) => {
                self.update(notebook, display);
                self.show(notebook, display, bundle("display_data", display));
            }
            Event::Result(display) => {
                let mut output = bundle("execute_result", display);
                output.insert("execution_count".into(), self.execution_count.into());
                output.sort_keys();
                self.update(notebook, display);
                self.show(notebook, display, output);
            }
            Event::Update(display) => self.update(notebook, display),
            Event::ClearOutput { wait: true } => self.clear_due = true,
            Event::ClearOutput { wait: false } => self.clear(notebook),
            Event::Background { cell, event } => self.background(notebook, *cell, event),
            // A session for a notebook's run is not asked for any.
            Event::Comm(_) => {}
        }
    }

    /// Records what a thread said that an earlier cell of the run began, the `number`th.
    fn background(&mut self, notebook: &mut Notebook, number: u64, event: &Event) {
        let place = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1));
        let Some(&cell) = place.and_then(|place| self.begun.get(place)) else {
            return;
        };
        let (running, due) = (self.cell, self.clear_due);
        (self.cell, self.clear_due) = (cell, false);
        if cell != running {
            self.reopen(notebook);
        }
        // A cell has its result once, when it ends.
        match event {
            Event::Result(display) => self.event(notebook, &Event::Display(display.clone())),
            event => self.event(notebook, event),
        }
        (self.cell, self.clear_due) = (running, due);
    }

    /// Text to which more may be added is one piece.
    fn reopen(&mut self, notebook: &mut Notebook) {
        self.reopened.insert(self.cell);
        let outputs = notebook.cells_mut()[self.cell].outputs_mut();
        if let Some(last) = outputs.and_then(|outputs| outputs.last_mut())
            && let Some(text) = last.get_mut("text")
            && let Value::Array(lines) = text
        {
            *text = Value::String(lines.iter().filter_map(Value::as_str).collect());
        }
    }

    /// Records how the running cell failed.
    pub fn error(&mut self, notebook: &mut Notebook, error: &CellError) {
        let output = json!({
            "ename": error.ename, "evalue": error.evalue, "output_type": "error", "traceback": error.traceback,
        });
        self.push(notebook, output);
    }

    /// The cell ended: texts become the lists of lines that a `.ipynb` file holds.
    pub fn end(&mut self, notebook: &mut Notebook) {
        let mut ended = std::mem::take(&mut self.reopened);
        ended.insert(self.cell);
        for cell in ended {
            self.say_what_is_missing(notebook, cell);
            let outputs = notebook.cells_mut()[cell].outputs_mut();
            for output in outputs.into_iter().flatten() {
                if let Some(text) = output.get_mut("text")
                    && let Value::String(whole) = text
                {
                    *text = lines(whole);
                }
            }
        }
    }

    fn stream(&mut self, notebook: &mut Notebook, name: &str, text: &str) {
        self.clear_if_due(notebook);
        let amount = self.amounts.entry(self.cell).or_default();
        let room = BEGINNING.saturating_sub(amount.text);
        let (text, over) = text.split_at(text.floor_char_boundary(room.min(text.len())));
        if !over.is_empty() {
            amount.text = BEGINNING;
            amount.hold(name, over);
        }
        if !text.is_empty() {
            self.write(notebook, name, text);
        }
    }

    /// Adds text to the last output, if that is of the same stream.
    fn write(&mut self, notebook: &mut Notebook, name: &str, text: &str) {
        let amount = self.amounts.entry(self.cell).or_default();
        amount.text += text.len();
        let last = notebook.cells_mut()[self.cell]
            .outputs_mut()
            .and_then(|outputs| outputs.last_mut());
        if let Some(last) = last
            && last.get("name").and_then(Value::as_str) == Some(name)
            && let Some(Value::String(whole)) = last.get_mut("text")
        {
            return whole.push_str(text);
        }
        amount.text += OUTPUT;
        self.push(
            notebook,
            json!({ "name": name, "output_type": "stream", "text": text }),
        );
    }

    fn show(&mut self, notebook: &mut Notebook, display: &Display, output: Map<String, Value>) {
        if self.clear_due {
            self.clear(notebook);
        }
        if !self.fits(display) {
            return;
        }
        let index = self.push(notebook, Value::Object(output));
        if let Some(id) = &display.display_id {
            self.shown
                .entry(id.clone())
                .or_default()
                .push((self.cell, index));
        }
    }

    /// Changes every display that was shown under this id.
    fn update(&mut self, notebook: &mut Notebook, display: &Display) {
        let Some(id) = &display.display_id else {
            return;
        };
        // What it showed before is still counted: a display that changes for ever may show little each time.
        let shown = self.shown.get(id).is_some_and(|places| !places.is_empty());
        if shown && size(display) > LARGE && !self.fits(display) {
            return;
        }
        for &(cell, index) in self.shown.get(id).into_iter().flatten() {
            let outputs = notebook
                .cells_mut()
                .get_mut(cell)
                .and_then(|cell| cell.outputs_mut());
            if let Some(output) = outputs.and_then(|outputs| outputs.get_mut(index)) {
                output["data"] = data(display);
                output["metadata"] = Value::Object(display.metadata.clone());
            }
        }
    }

    /// Whether a display still goes into the cell.
    fn fits(&mut self, display: &Display) -> bool {
        let amount = self.amounts.entry(self.cell).or_default();
        let size = size(display);
        if amount.displays + size > DISPLAYS {
            amount.missing += 1;
            return false;
        }
        amount.displays += size;
        true
    }

    /// Says what is missing of a cell that ended, and adds the end of its text.
    fn say_what_is_missing(&mut self, notebook: &mut Notebook, cell: usize) {
        let Some(amount) = self.amounts.get_mut(&cell) else {
            return;
        };
        let (between, missing) = (
            std::mem::take(&mut amount.between),
            std::mem::take(&mut amount.missing),
        );
        let ending = std::mem::take(&mut amount.ending);
        amount.held = 0;
        let mut notes = Vec::new();
        if between > 0 {
            notes.push(format!(
                "{} of this cell's text are left out here: a run keeps the first {} MB and the last. Let it print less, or write to a file",
                bytes(between as u64),
                BEGINNING >> 20
            ));
        }
        if missing > 0 {
            notes.push(format!(
                "{missing} displays of this cell are left out: a run keeps {} MB of a cell's displays",
                DISPLAYS >> 20
            ));
        }
        // What waits to be cleared is the running cell's, and waits for an output of its own.
        let (running, due) = (self.cell, self.clear_due);
        (self.cell, self.clear_due) = (cell, false);
        for note in notes {
            self.push(notebook, json!({ "name": "stderr", "output_type": "stream", "text": format!("[glassbox: {note}]\n") }));
        }
        for (name, text) in ending {
            self.write(notebook, &name, &text);
        }
        (self.cell, self.clear_due) = (running, due);
    }

    fn push(&mut self, notebook: &mut Notebook, output: Value) -> usize {
        self.clear_if_due(notebook);
        match notebook.cells_mut()[self.cell].outputs_mut() {
            Some(outputs) => {
                outputs.push(output);
                outputs.len() - 1
            }
            None => 0,
        }
    }

    fn clear_if_due(&mut self, notebook: &mut Notebook) {
        if std::mem::take(&mut self.clear_due) {
            self.clear(notebook);
        }
    }

    fn clear(&mut self, notebook: &mut Notebook) {
        let cell = self.cell;
        notebook.cells_mut()[cell].set_outputs(Vec::new(), Some(self.execution_count));
        self.shown
            .values_mut()
            .for_each(|places| places.retain(|place| place.0 != cell));
        self.amounts.remove(&cell);
        self.clear_due = false;
    }
}

/// A display that changes is counted again only from here on.
const LARGE: usize = 1 << 20;

/// How much a display holds, in bytes, about.
fn size(display: &Display) -> usize {
    let texts = display.data.values().map(|content| match content {
        Value::String(text) => text.len(),
        content => content.to_string().len(),
    });
    OUTPUT + texts.sum::<usize>()
}

fn bundle(output_type: &str, display: &Display) -> Map<String, Value> {
    let mut output = Map::new();
    output.insert("data".into(), data(display));
    output.insert("metadata".into(), Value::Object(display.metadata.clone()));
    output.insert("output_type".into(), output_type.into());
    output
}

/// The MIME bundle with text types as lists of lines, sorted by type.
fn data(display: &Display) -> Value {
    let mut data: Map<String, Value> = Map::new();
    for (mime, content) in &display.data {
        let split = mime.starts_with("text/")
            || mime == "image/svg+xml"
            || mime == "application/javascript";
        let content = match content {
            Value::String(text) if split => lines(text),
            content => content.clone(),
        };
        data.insert(mime.clone(), content);
    }
    data.sort_keys();
    Value::Object(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::StreamName;

    fn notebook(cells: usize) -> Notebook {
        let cell = json!({"cell_type": "code", "metadata": {}, "source": "x", "outputs": [{"output_type": "stream"}],
            "execution_count": 9});
        let text =
            json!({"cells": vec![cell; cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 4});
        Notebook::parse(&text.to_string()).unwrap()
    }

    fn out(text: &str) -> Event {
        Event::Stream {
            name: StreamName::Stdout,
            text: text.into(),
        }
    }

    fn err(text: &str) -> Event {
        Event::Stream {
            name: StreamName::Stderr,
            text: text.into(),
        }
    }

    fn shown(text: &str, id: Option<&str>) -> Display {
        Display {
            display_id: id.map(str::to_owned),
            ..Display::text(text)
        }
    }

    fn record(events: &[Event]) -> Vec<Value> {
        let mut notebook = notebook(1);
        let mut recorder = Recorder::default();
        recorder.begin(&mut notebook, 0, 1);
        events
            .iter()
            .for_each(|event| recorder.event(&mut notebook, event));
        recorder.end(&mut notebook);
        assert_eq!(notebook.cells()[0].execution_count(), Some(1));
        notebook.cells()[0].outputs().to_vec()
    }

    #[test]
    fn streams_in_a_row_merge_and_keep_their_bytes() {
        assert_eq!(
            record(&[out("a"), out("b\r"), out("c\nd"), err("e"), out("f\n")]),
            [
                json!({"name": "stdout", "output_type": "stream", "text": ["ab\r", "c\n", "d"]}),
                json!({"name": "stderr", "output_type": "stream", "text": ["e"]}),
                json!({"name": "stdout", "output_type": "stream", "text": ["f\n"]}),
            ]
        );
    }

    #[test]
    fn results_and_displays_are_told_apart() {
        let mut picture = shown("a\nb", None);
        picture.data.insert("image/png".into(), "QUJD".into());
        picture
            .data
            .insert("application/json".into(), json!({"b": 1}));
        assert_eq!(
            record(&[Event::Display(picture), Event::Result(shown("5", None))]),
            [
                json!({"data": {"application/json": {"b": 1}, "image/png": "QUJD", "text/plain": ["a\n", "b"]},
                    "metadata": {}, "output_type": "display_data"}),
                json!({"data": {"text/plain": ["5"]}, "execution_count": 1, "metadata": {},
                    "output_type": "execute_result"}),
            ]
        );
    }

    fn texts(outputs: &[Value]) -> Vec<String> {
        outputs
            .iter()
            .map(|o| super::super::document::joined(&o["data"]["text/plain"]))
            .collect()
    }

    #[test]
    fn an_update_changes_every_display_of_its_id_in_any_cell() {
        let mut notebook = notebook(2);
        let mut recorder = Recorder::default();
        recorder.begin(&mut notebook, 0, 1);
        recorder.event(&mut notebook, &Event::Display(shown("0%", Some("p"))));
        recorder.event(&mut notebook, &Event::Display(shown("other", Some("q"))));
        recorder.end(&mut notebook);
        recorder.begin(&mut notebook, 1, 2);
        recorder.event(&mut notebook, &Event::Display(shown("50%", Some("p"))));
        recorder.event(&mut notebook, &Event::Update(shown("100%", Some("p"))));
        recorder.event(
            &mut notebook,
            &Event::Update(shown("nobody", Some("unknown"))),
        );
        recorder.end(&mut notebook);
        assert_eq!(texts(notebook.cells()[0].outputs()), ["100%", "other"]);
        assert_eq!(texts(notebook.cells()[1].outputs()), ["100%"]);
    }

    #[test]
    fn clear_output_empties_at_once_or_at_the_next_output() {
        let now = Event::ClearOutput { wait: false };
        let later = Event::ClearOutput { wait: true };
        assert_eq!(record(&[out("a"), now]), [] as [Value; 0]);
        assert_eq!(record(&[out("a"), later.clone()]).len(), 1);
        assert_eq!(
            texts(&record(&[
                out("a"),
                later,
                Event::Display(shown("b", None))
            ])),
            ["b"]
        );
    }

    #[test]
    fn a_cleared_display_can_not_be_updated() {
        let outputs = record(&[
            Event::Display(shown("old", Some("p"))),
            Event::ClearOutput { wait: false },
            Event::Display(shown("new", None)),
            Event::Update(shown("late", Some("p"))),
        ]);
        assert_eq!(texts(&outputs), ["new"]);
    }
}

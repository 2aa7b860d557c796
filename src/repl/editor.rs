//! Typing cells: a prompt with completion, colours, history, and lines that go on until the cell is complete.

use std::borrow::Cow;
use std::path::PathBuf;

use nu_ansi_term::{Color, Style};
use reedline::{
    EditCommand, ExternalPrinter, FileBackedHistory, Highlighter, IdeMenu, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineMenu, Signal,
    StyledText,
};

use super::completion::{Names, Waiting};
use super::keys::{Keys, Later, MENU, Wish};
use super::layout;
use super::paint::colour;
use super::{Read, Shared};
use crate::notebook::highlight::tokens;
use crate::private;
use crate::session::{Completeness, asked, completeness};

/// How many cells are remembered.
const HISTORY: usize = 5000;
/// Rows of the completion menu at most.
const MENU_ROWS: u16 = 12;

/// The line editor.
pub struct Editor {
    /// There except while it is being changed.
    line: Option<Reedline>,
    prompt: Numbered,
    later: Later,
}

impl Editor {
    /// An editor that completes names from `session`.
    /// What comes by `printer` stands above the line that is typed.
    pub fn new(session: &Shared, printer: ExternalPrinter<String>) -> Editor {
        let colours = console::colors_enabled();
        let later = Later::default();
        let waiting = Waiting::default();
        let menu = IdeMenu::default()
            .with_name(MENU)
            .with_marker("› ")
            // A character that is in no name closes the menu.
            .with_word_chars("_")
            .with_max_completion_height(MENU_ROWS)
            .with_max_completion_width(layout::WIDEST_ROW)
            .with_min_description_width(24)
            .with_max_description_width(72)
            .with_correct_cursor_pos(true)
            .with_text_style(Style::new())
            .with_match_text_style(Style::new().bold())
            .with_selected_text_style(Style::new().reverse())
            .with_selected_match_text_style(Style::new().reverse().bold())
            .with_description_text_style(Color::DarkGray.normal());
        let mut line = Reedline::create()
            .with_completer(Box::new(Names::new(session, waiting.clone())))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_highlighter(Box::new(Colours))
            .with_ansi_colors(colours)
            .use_bracketed_paste(true)
            .with_external_printer(printer)
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_edit_mode(Box::new(Keys::new(later.clone())));
        // Without a home folder, or with one that can't be written, there is no memory beyond this session.
        if let Some(history) =
            history_file().and_then(|path| FileBackedHistory::with_file(HISTORY, path).ok())
        {
            line = line.with_history(Box::new(history));
        }
        Editor {
            line: Some(line),
            prompt: Numbered { next: 1, waiting },
            later,
        }
    }

    /// Waits for a cell.
    pub fn read(&mut self) -> reedline::Result<Read> {
        // Names may stand for something else since the last cell.
        self.prompt.waiting.forget();
        let early = self.later.take();
        let mut complete = self.grant(early);
        loop {
            if complete {
                self.prompt.waiting.forget();
            }
            let signal = self.read_line(complete)?;
            let early = self.later.take();
            match signal {
                Signal::Success(code) => {
                    if !code.trim().is_empty() && asked(&code).is_none() {
                        self.prompt.next += 1;
                    }
                    // Now and not at the end, which a closed terminal may not leave time for. A history that can't be
                    // written is no reason not to run the cell.
                    let _ = self.line.as_mut().map(Reedline::sync_history);
                    // Nothing is early: Enter is the last key that is taken at once.
                    return Ok(Read::Cell(code));
                }
                Signal::HostCommand(asked) => {
                    let wishes = Wish::of_command(&asked).into_iter().chain(early);
                    complete = self.grant(wishes.collect());
                }
                Signal::CtrlD => return Ok(Read::End),
                _ => {
                    // Left in the line by a search that was given up.
                    self.edit(&[EditCommand::Clear]);
                    if early.is_empty() {
                        return Ok(Read::Cleared);
                    }
                    complete = self.grant(early);
                }
            }
        }
    }

    /// Reads on in the line; if it is `complete`, hands it out as it is.
    fn read_line(&mut self, complete: bool) -> reedline::Result<Signal> {
        let line = self.line.take().unwrap_or_else(Reedline::create);
        let line = self.line.insert(line.with_immediately_accept(complete));
        Ok(line.read_line(&self.prompt)?)
    }

    /// Does what keys ask for; true if the last one was Enter and the cell is complete.
    fn grant(&mut self, wishes: Vec<Wish>) -> bool {
        let mut complete = false;
        for wish in wishes {
            complete = false;
            match wish {
                Wish::Edit(commands) => self.edit(&commands),
                Wish::Clear => self.edit(&[EditCommand::Clear]),
                Wish::NewLine => self.new_line(),
                Wish::Enter => {
                    self.align_closing();
                    complete = is_complete(self.text());
                    if !complete {
                        self.new_line();
                    }
                }
            }
        }
        complete
    }

    /// A new line at the cursor, indented as deep as brackets are open there.
    fn new_line(&mut self) {
        let indent = layout::indent(self.before_cursor());
        self.edit(&[
            EditCommand::InsertNewline,
            EditCommand::InsertString(indent),
        ]);
    }

    /// A closing bracket that begins the line of the cursor goes below what it closes.
    fn align_closing(&mut self) {
        let before = self.before_cursor();
        let Some(wanted) = layout::closing_indent(before) else {
            return;
        };
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let blank = before[start..].len() - before[start..].trim_start().len();
        if before[start..start + blank] == *wanted {
            return;
        }
        let cursor = before.len();
        let moved = cursor - blank + wanted.len();
        let jump = |position| EditCommand::MoveToPosition {
            position,
            select: false,
        };
        let mut commands = vec![jump(start)];
        commands.extend(std::iter::repeat_n(EditCommand::Delete, blank));
        commands.push(EditCommand::InsertString(wanted));
        commands.push(jump(moved));
        self.edit(&commands);
    }

    fn text(&self) -> &str {
        self.line
            .as_ref()
            .map_or("", Reedline::current_buffer_contents)
    }

    fn before_cursor(&self) -> &str {
        let cursor = self
            .line
            .as_ref()
            .map_or(0, Reedline::current_insertion_point);
        self.text().get(..cursor).unwrap_or_default()
    }

    fn edit(&mut self, commands: &[EditCommand]) {
        if let Some(line) = &mut self.line {
            line.run_edit_commands(commands);
        }
    }
}

/// The file of what was typed, made for the user alone. Without it the history lasts as long as the session.
fn history_file() -> Option<PathBuf> {
    let folder = dirs::data_dir()?.join("glassbox");
    private::make_folders(&folder).ok()?;
    let file = folder.join("history.txt");
    private::append(&file).ok()?;
    Some(file)
}

/// Whether Enter runs `code`: it is complete, or nothing could complete it.
pub fn is_complete(code: &str) -> bool {
    !matches!(completeness(code), Completeness::Incomplete { .. })
}

struct Numbered {
    next: usize,
    waiting: Waiting,
}

impl Prompt for Numbered {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        format!("[{}] ", self.next).into()
    }
    fn render_prompt_right(&self) -> Cow<'_, str> {
        // The first time rust-analyzer has to be started for it.
        if self.waiting.is_on() {
            "looking up names…".into()
        } else {
            "".into()
        }
    }
    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        "› ".into()
    }
    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        // Below the first line's text.
        format!("{}· ", " ".repeat(self.render_prompt_left().len())).into()
    }
    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        match search.status {
            PromptHistorySearchStatus::Passing => format!("search `{}`: ", search.term).into(),
            PromptHistorySearchStatus::Failing => {
                format!("search `{}`, not found: ", search.term).into()
            }
        }
    }
}

/// Rust colours while typing.
struct Colours;

impl Highlighter for Colours {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut text = StyledText::new();
        for token in tokens(line) {
            text.push((colour(token.kind), token.text.to_owned()));
        }
        text
    }
}

//! Typing cells: a prompt with completion, colours, history, and lines that go on until the cell is complete.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use reedline::{
    Color, Completer, CompletionResult, EditCommand, Emacs, FileBackedHistory, Highlighter,
    IdeMenu, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode, PromptHistorySearch,
    Reedline, ReedlineEvent, ReedlineMenu, Signal, Span, StyledText, Suggestion, ValidationResult,
    Validator, default_emacs_keybindings,
};

use super::{Shared, command, lock};
use crate::notebook::highlight::{Kind, tokens};
use crate::session::{Completeness, Completion, Session};

/// How many cells are remembered.
const HISTORY: usize = 5000;
const MENU: &str = "completion";

/// What was typed.
pub enum Read {
    /// A cell.
    Cell(String),
    /// ctrl-c: the line was given up.
    Cleared,
    /// ctrl-d.
    End,
}

/// The line editor.
pub struct Editor {
    line: Reedline,
    prompt: Numbered,
}

impl Editor {
    /// An editor that completes names from `session`.
    pub fn new(session: &Shared) -> Editor {
        let mut keys = default_emacs_keybindings();
        keys.add_binding(
            KeyModifiers::NONE,
            KeyCode::Tab,
            ReedlineEvent::UntilFound(vec![
                ReedlineEvent::Menu(MENU.into()),
                ReedlineEvent::MenuNext,
            ]),
        );
        keys.add_binding(
            KeyModifiers::ALT,
            KeyCode::Enter,
            ReedlineEvent::Edit(vec![EditCommand::InsertNewline]),
        );
        let menu = IdeMenu::default()
            .with_name(MENU)
            .with_max_completion_height(12)
            .with_min_description_width(24)
            .with_max_description_width(72);
        let menu = ReedlineMenu::EngineCompleter(Box::new(menu));
        let colours = console::colors_enabled();
        let mut line = Reedline::create()
            .with_completer(Box::new(Names(Arc::clone(session))))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_validator(Box::new(Whole(Arc::clone(session))))
            .with_highlighter(Box::new(Colours))
            .with_ansi_colors(colours)
            .use_bracketed_paste(true)
            .with_menu(menu)
            .with_edit_mode(Box::new(Emacs::new(keys)));
        // Without a home folder, or with one that can't be written, there is no memory beyond this session.
        if let Some(history) =
            history_file().and_then(|path| FileBackedHistory::with_file(HISTORY, path).ok())
        {
            line = line.with_history(Box::new(history));
        }
        Editor {
            line,
            prompt: Numbered { next: 1 },
        }
    }

    /// Waits for a cell.
    pub fn read(&mut self) -> reedline::Result<Read> {
        Ok(match self.line.read_line(&self.prompt)? {
            Signal::Success(code) => {
                if !code.trim().is_empty() && command(&code).is_none() {
                    self.prompt.next += 1;
                }
                Read::Cell(code)
            }
            Signal::CtrlC => Read::Cleared,
            Signal::CtrlD => Read::End,
            _ => Read::Cleared,
        })
    }
}

fn history_file() -> Option<PathBuf> {
    Some(dirs::data_dir()?.join("glassbox").join("history.txt"))
}

/// Whether `code` can be run as it is.
pub fn is_complete(session: &Session, code: &str) -> bool {
    !matches!(session.is_complete(code), Completeness::Incomplete { .. })
}

struct Numbered {
    next: usize,
}

impl Prompt for Numbered {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        format!("[{}] ", self.next).into()
    }
    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }
    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        "› ".into()
    }
    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "    · ".into()
    }
    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        format!("search `{}`: ", search.term).into()
    }
}

/// Completion by the session.
struct Names(Shared);

impl Completer for Names {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let Ok(found) = lock(&self.0).complete(line, pos) else {
            return CompletionResult::fresh(Vec::new());
        };
        // The menu panics on a span outside of the line.
        let (start, end) = (
            found.start.min(pos),
            found.end.min(line.len()).max(found.start.min(pos)),
        );
        let suggestions: Vec<Suggestion> = found
            .items
            .into_iter()
            .map(|item| Suggestion {
                description: description(&item),
                value: item.text,
                span: Span::new(start, end),
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

/// What the menu says beside a proposal: its type or signature if that is known, else what kind of thing it is.
fn description(item: &Completion) -> Option<String> {
    let label = item.label.trim();
    if label != item.text.trim() && !label.is_empty() {
        Some(label.to_owned())
    } else {
        (!item.kind.is_empty()).then(|| item.kind.to_owned())
    }
}

/// Whether Enter runs the cell or adds a line.
struct Whole(Shared);

impl Validator for Whole {
    fn validate(&self, line: &str) -> ValidationResult {
        match is_complete(&lock(&self.0), line) {
            true => ValidationResult::Complete,
            false => ValidationResult::Incomplete,
        }
    }
}

/// Rust colours while typing.
struct Colours;

impl Highlighter for Colours {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut text = StyledText::new();
        for token in tokens(line) {
            let colour = match token.kind {
                Kind::Comment => Color::DarkGray,
                Kind::Text => Color::Green,
                Kind::Number => Color::LightBlue,
                Kind::Keyword => Color::Magenta,
                Kind::Type | Kind::Lifetime | Kind::Attribute => Color::Yellow,
                Kind::Function | Kind::Macro => Color::Cyan,
                Kind::Space | Kind::Name | Kind::Punctuation => Color::Default,
            };
            text.push((colour.normal(), token.text.to_owned()));
        }
        text
    }
}

//! Keys → what the line editor does. Keys behind one that ends the reading are kept for the next reading.
//!
//! ```text
//! terminal ─▶ crossterm ─▶ one batch of events ─▶ Keys ─▶ the editor, up to the key that ends the reading
//!                                                   └───▶ Later ─▶ Editor::read, the next time
//! ```
//! The editor takes all keys that are there at once. When one of them ends the reading (ctrl-c, or a key that is handled
//! by us), it forgets the rest of them: what a person typed on while a completion was computed, or a program wrote in
//! one go, would be lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reedline::{
    EditCommand, EditMode, Emacs, KeyCode, KeyModifiers, PromptEditMode, ReedlineEvent,
    ReedlineRawEvent, default_emacs_keybindings,
};

/// Names the completion menu.
pub const MENU: &str = "completion";
/// What Enter asks the host for: run the cell if it is complete, else go on in the next line.
const ENTER: &str = "enter";
/// What Alt-Enter asks the host for.
const NEW_LINE: &str = "new line";

/// What a key asks us for, beyond what the line editor does by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Run the cell if it is complete, else go on in the next line.
    Enter,
    /// A new line in any case.
    NewLine,
    /// Edit the line.
    Edit(Vec<EditCommand>),
    /// Give the line up.
    Clear,
}

impl Wish {
    /// What the host command of a key stands for.
    pub fn of_command(command: &str) -> Option<Wish> {
        match command {
            ENTER => Some(Wish::Enter),
            NEW_LINE => Some(Wish::NewLine),
            _ => None,
        }
    }

    /// What a key that came too early can still do.
    fn of_event(event: ReedlineEvent) -> Option<Wish> {
        match event {
            ReedlineEvent::Edit(commands) => Some(Wish::Edit(commands)),
            ReedlineEvent::CtrlC => Some(Wish::Clear),
            ReedlineEvent::ExecuteHostCommand(command) => Wish::of_command(&command),
            ReedlineEvent::UntilFound(events) => events.into_iter().find_map(|event| match event {
                ReedlineEvent::ExecuteHostCommand(command) => Wish::of_command(&command),
                _ => None,
            }),
            // Menus and the search belong to what is on the screen when the key comes.
            _ => None,
        }
    }
}

/// The keys that came behind the one that ended the reading.
#[derive(Clone, Default)]
pub struct Later {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    ended: bool,
    events: Vec<ReedlineEvent>,
}

impl Later {
    /// The reading has ended: what came too early for it.
    pub fn take(&self) -> Vec<Wish> {
        let state = std::mem::take(&mut *self.lock());
        state
            .events
            .into_iter()
            .filter_map(Wish::of_event)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys of Emacs and of readline, with ours.
pub struct Keys {
    emacs: Emacs,
    later: Later,
}

impl Keys {
    /// Keys that leave what comes too early in `later`.
    pub fn new(later: Later) -> Keys {
        let mut keys = default_emacs_keybindings();
        let host = |command: &str| ReedlineEvent::ExecuteHostCommand(command.to_owned());
        keys.add_binding(
            KeyModifiers::NONE,
            KeyCode::Tab,
            ReedlineEvent::UntilFound(vec![
                ReedlineEvent::Menu(MENU.into()),
                ReedlineEvent::MenuNext,
            ]),
        );
        keys.add_binding(
            KeyModifiers::NONE,
            KeyCode::Enter,
            ReedlineEvent::UntilFound(vec![
                ReedlineEvent::MenuAccept,
                // While the history is searched: takes what was found into the line. Else it does nothing here.
                ReedlineEvent::HistoryHintComplete,
                host(ENTER),
            ]),
        );
        keys.add_binding(KeyModifiers::ALT, KeyCode::Enter, host(NEW_LINE));
        Keys {
            emacs: Emacs::new(keys),
            later,
        }
    }

    fn take(&mut self, event: ReedlineEvent) -> ReedlineEvent {
        let mut later = self.later.lock();
        if later.ended {
            later.events.push(event);
            return ReedlineEvent::None;
        }
        // Enter is always the last of its batch.
        later.ended = matches!(
            event,
            ReedlineEvent::CtrlC | ReedlineEvent::ExecuteHostCommand(_)
        );
        event
    }
}

impl EditMode for Keys {
    fn parse_event(&mut self, event: ReedlineRawEvent) -> ReedlineEvent {
        let event = self.emacs.parse_event(event);
        self.take(event)
    }

    fn edit_mode(&self) -> PromptEditMode {
        self.emacs.edit_mode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &mut Keys, event: ReedlineEvent) -> ReedlineEvent {
        keys.take(event)
    }

    fn insert(text: &str) -> ReedlineEvent {
        ReedlineEvent::Edit(vec![EditCommand::InsertString(text.into())])
    }

    #[test]
    fn keys_behind_ctrl_c_are_kept_for_the_next_line() {
        let later = Later::default();
        let mut keys = Keys::new(later.clone());
        assert_eq!(typed(&mut keys, insert("a")), insert("a"));
        assert_eq!(typed(&mut keys, ReedlineEvent::CtrlC), ReedlineEvent::CtrlC);
        let enter = ReedlineEvent::UntilFound(vec![
            ReedlineEvent::MenuAccept,
            ReedlineEvent::ExecuteHostCommand(ENTER.into()),
        ]);
        for event in [insert("b"), ReedlineEvent::CtrlC, insert("c"), enter] {
            assert_eq!(typed(&mut keys, event), ReedlineEvent::None);
        }
        let edit = |text: &str| Wish::Edit(vec![EditCommand::InsertString(text.into())]);
        assert_eq!(
            later.take(),
            [edit("b"), Wish::Clear, edit("c"), Wish::Enter]
        );
        assert_eq!(typed(&mut keys, insert("d")), insert("d"));
        assert_eq!(later.take(), []);
    }
}

//! How much a value says of itself unasked: a screen at most.

use std::fmt::{self, Write};

use super::{MimeBundle, Render, number};

/// Characters that a value shows as text.
pub const CHARACTERS: usize = 4000;
/// Lines that a value shows as text.
pub const LINES: usize = 60;

/// Text cut to so many characters, with `…` where there was more.
pub fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(characters.saturating_sub(1)).collect();
            kept + "…"
        }
    }
}

/// What a value shows of itself first, in one line: it begins with the name of its type.
pub fn first_line(name: &str, value: &dyn Render) -> String {
    let shown = value.render();
    let line = shortened(shown.plain().lines().next().unwrap_or_default(), 200);
    if line.starts_with(name) {
        line
    } else {
        format!("{name} ({line})")
    }
}

/// The `{:?}` of a value, cut to a screen; formatting ends where it is cut.
pub fn debug(value: &dyn fmt::Debug) -> String {
    let mut screen = Screen::default();
    if write!(screen, "{value:?}").is_err() && screen.full {
        screen.text.push_str(MORE);
    }
    screen.text
}

/// What stands below text that was cut.
const MORE: &str =
    "…\n(cut here: `println!(\"{:?}\", …)` prints all of it, `println!(\"{:#?}\", …)` in lines)";

/// Text up to the limits; what goes beyond is refused.
#[derive(Default)]
struct Screen {
    text: String,
    characters: usize,
    lines: usize,
    full: bool,
}

impl Write for Screen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.characters += 1;
            self.lines += usize::from(character == '\n');
            if self.characters > CHARACTERS || self.lines >= LINES {
                self.full = true;
                return Err(fmt::Error);
            }
            self.text.push(character);
        }
        Ok(())
    }
}

/// Text of a value that is cut to a screen; what is left out is counted.
pub fn screen(text: &str) -> Option<String> {
    let mut screen = Screen::default();
    if screen.write_str(text).is_ok() {
        return None;
    }
    let kept = screen.text;
    let left = &text[kept.len()..];
    let count = |count: usize, what: &str| format!("{} more {what}", number::count(count as u64));
    let more = match left.lines().count() {
        // Whole lines are left, so none is shown in part.
        lines @ 2.. => {
            let whole = kept.rfind('\n').map_or(kept.as_str(), |end| &kept[..end]);
            return Some(format!("{whole}\n… {}", count(lines, "lines")));
        }
        _ => count(left.chars().count(), "characters"),
    };
    Some(format!("{kept}\n… {more}"))
}

impl MimeBundle {
    /// The same with a plain text of a screen at most.
    pub(crate) fn on_a_screen(self) -> Self {
        if self.is_whole() {
            return self;
        }
        match screen(self.plain()) {
            Some(text) => self.with("text/plain", text.into()),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_debug_text_is_cut_and_says_so() {
        assert_eq!(debug(&[1, 2]), "[1, 2]");
        let long = debug(&vec![123_456_789_u64; 1_000_000]);
        assert!(
            long.chars().count() < CHARACTERS + 200 && long.contains("cut here"),
            "{long}"
        );
    }

    #[test]
    fn what_fits_a_screen_stays_and_the_rest_is_counted() {
        assert_eq!(screen("short\ntext"), None);
        let lines = "line\n".repeat(200);
        let cut = screen(&lines).unwrap_or_default();
        assert!(
            cut.lines().count() <= LINES + 1 && cut.ends_with("… 141 more lines"),
            "{cut}"
        );
        let wide = screen(&"x".repeat(5000)).unwrap_or_default();
        assert!(wide.ends_with("\n… 1,000 more characters"), "{wide}");
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("äöü", 3), "äöü");
    }
}

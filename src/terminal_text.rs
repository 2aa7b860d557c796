//! Text that others wrote → text that a terminal only shows: letters, colours, and what a progress bar needs within its line.
//!
//! ```text
//! text ─▶ letters, line ends, tabs, colours (`ESC [ … m`) │ in what cells print also `\r`, `\b`, erasing within a line
//!      └▶ anything else that a terminal would obey: left out; a lone control character or a mark that turns text around: shown
//! ```
//! A terminal obeys what it is sent: it can be told to fill the clipboard, to name its window, to answer as if somebody typed, or to show
//! `exe.txt` for `txt.exe`. So whatever is written to one goes through here.

use std::borrow::Cow;

/// A sequence that is longer is no colour.
const LONGEST: usize = 64;

/// Text that is whole: a report, a line, a name.
pub(crate) fn tame(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| matches!(c, '\n' | '\t') || !obeyed(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    Tamer::default().push(text, false, &mut out);
    Cow::Owned(out)
}

/// The same, in one line.
pub(crate) fn tame_line(text: &str) -> String {
    tame(text).replace(['\n', '\t'], " ")
}

/// Text that comes in pieces, of which each may end within a sequence.
#[derive(Debug, Default)]
pub(crate) struct Tamer {
    state: State,
    /// The sequence so far, behind its ESC.
    sequence: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After `ESC [`.
    Control,
    /// In a text for the terminal itself (title, clipboard, picture): until its end.
    Hidden,
    /// In such a text, after ESC.
    HiddenEscape,
    /// After ESC and a mark of a character set: one more belongs to it.
    Set,
}

impl Tamer {
    /// What cells print.
    pub(crate) fn printed(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        self.push(text, true, &mut out);
        out
    }

    /// What is to stand in lines of its own.
    pub(crate) fn whole(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        self.push(text, false, &mut out);
        out
    }

    fn push(&mut self, text: &str, moves: bool, out: &mut String) {
        for c in text.chars() {
            self.one(c, moves, out);
        }
    }

    fn one(&mut self, c: char, moves: bool, out: &mut String) {
        match self.state {
            State::Text => self.text(c, moves, out),
            State::Escape => {
                self.state = match c {
                    '[' => State::Control,
                    ']' | 'P' | '_' | '^' | 'X' | 'k' => State::Hidden,
                    ' '..='/' => State::Set,
                    // Two characters are the whole of it.
                    '0'..='~' => State::Text,
                    // It ended the line instead.
                    c => {
                        self.state = State::Text;
                        return self.text(c, moves, out);
                    }
                };
                self.sequence.clear();
            }
            State::Set => self.state = State::Text,
            State::Control => match c {
                ' '..='?' => {
                    if self.sequence.len() <= LONGEST {
                        self.sequence.push(c);
                    }
                }
                '@'..='~' => {
                    self.state = State::Text;
                    if self.may_pass(c, moves) {
                        out.push_str("\u{1b}[");
                        out.push_str(&self.sequence);
                        out.push(c);
                    }
                }
                c => {
                    self.state = State::Text;
                    self.text(c, moves, out);
                }
            },
            // A terminal waits for the end for ever; text that never ends is shown again from its next line.
            State::Hidden => match c {
                '\u{7}' | '\u{9c}' | '\u{18}' | '\u{1a}' => self.state = State::Text,
                '\u{1b}' => self.state = State::HiddenEscape,
                '\n' => {
                    self.state = State::Text;
                    out.push('\n');
                }
                _ => {}
            },
            State::HiddenEscape => {
                self.state = State::Text;
                if c != '\\' {
                    self.state = State::Escape;
                    self.one(c, moves, out);
                }
            }
        }
    }

    fn text(&mut self, c: char, moves: bool, out: &mut String) {
        match c {
            '\u{1b}' => self.state = State::Escape,
            '\u{9b}' => {
                self.state = State::Control;
                self.sequence.clear();
            }
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => self.state = State::Hidden,
            '\n' | '\t' => out.push(c),
            '\r' | '\u{8}' if moves => out.push(c),
            // The other half of a line's end.
            '\r' => {}
            // As control pictures: ␇ for a bell.
            '\0'..='\u{1f}' => out.extend(char::from_u32(0x2400 + u32::from(c))),
            '\u{7f}' => out.push('␡'),
            '\u{80}'..='\u{9f}' => {}
            c if turns(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }

    /// Colours may, and what erases within a line.
    fn may_pass(&self, last: char, moves: bool) -> bool {
        let parameters = &self.sequence;
        match last {
            'm' => {
                parameters.len() <= LONGEST
                    && parameters
                        .bytes()
                        .all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'))
            }
            'K' => moves && matches!(parameters.as_str(), "" | "0" | "1" | "2"),
            _ => false,
        }
    }
}

/// Whether a terminal does something else with a character than to show it.
fn obeyed(c: char) -> bool {
    c.is_control() || turns(c)
}

/// Marks that have text shown in another order than it stands in.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_stay_and_all_else_goes() {
        for (text, expected) in [
            ("é\ta\nb", "é\ta\nb"),
            (
                "\u{1b}[1;38:5:9mred\u{1b}[0m\u{1b}[m",
                "\u{1b}[1;38:5:9mred\u{1b}[0m\u{1b}[m",
            ),
            ("a\u{1b}]52;c;aGk=\u{7}b", "ab"),
            ("a\u{1b}]0;title\u{1b}\\b", "ab"),
            ("a\u{9d}0;title\u{9c}b", "ab"),
            (
                "a\u{1b}_Gf=100;AAAA\u{1b}\\b\u{1b}Pq#0\u{1b}\\c\u{1b}^x\u{1b}\\\u{1b}Xy\u{1b}\\\u{1b}kz\u{1b}\\",
                "abc",
            ),
            (
                "a\u{1b}[2J\u{1b}[H\u{1b}[6n\u{1b}[?1049h\u{1b}[>c\u{1b}[5;5Hb",
                "ab",
            ),
            ("a\u{9b}31mb\u{9b}2Jc", "a\u{1b}[31mbc"),
            ("a\u{1b}cb\u{1b}(0c\u{1b}#8d\u{1b}7", "abcd"),
            ("a\u{1b}]never ends\nb", "a\nb"),
            ("a\u{1b}]x\u{1b}[31mb", "a\u{1b}[31mb"),
            ("\u{1b}[?25m\u{1b}[3\u{7}1m", "␇1m"),
            ("bell\u{7} null\0 del\u{7f}", "bell␇ null␀ del␡"),
            ("exe\u{202e}txt.\u{2066}a", "exe\\u{202e}txt.\\u{2066}a"),
            ("10%\r\u{1b}[K20%\u{8}", "10%20%␈"),
        ] {
            assert_eq!(tame(text), expected, "{text:?}");
        }
        assert_eq!(tame_line("a\nb\u{1b}]0;x\u{7}\tc"), "a b c");
    }

    #[test]
    fn a_progress_bar_moves_within_its_line() {
        let bar = "10%\r\u{1b}[2K20%\u{8}\u{8}\u{1b}[32m%\u{1b}[0m\n";
        assert_eq!(Tamer::default().printed(bar), bar);
        assert_eq!(Tamer::default().printed("a\u{1b}[1Ab\u{1b}[3K"), "ab");
    }

    proptest! {
        #[test]
        fn nothing_but_colours_comes_through(text in "(\\PC|\u{1b}|\u{9b}|\u{9d}|\u{7}|[\\[\\]P_;0-9mKJH\\\\\r\n]){0,60}", cut in any::<prop::sample::Index>()) {
            let cut = text.floor_char_boundary(cut.index(text.len() + 1));
            let whole = Tamer::default().printed(&text);
            let mut tamer = Tamer::default();
            prop_assert_eq!(tamer.printed(&text[..cut]) + &tamer.printed(&text[cut..]), whole.clone());
            let mut rest = whole.as_str();
            while let Some(at) = rest.find('\u{1b}') {
                let body = rest[at + 1..].strip_prefix('[');
                prop_assert!(body.is_some(), "{:?}", whole);
                let body = body.unwrap_or_default();
                let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':')).unwrap_or(0);
                prop_assert!(body[end..].starts_with(['m', 'K']), "{:?}", whole);
                rest = &body[end..];
            }
            let kept = ['\n', '\t', '\r', '\u{8}', '\u{1b}'];
            prop_assert!(whole.chars().all(|c| !c.is_control() || kept.contains(&c)), "{:?}", whole);
        }
    }
}

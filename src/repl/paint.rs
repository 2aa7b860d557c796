//! Colours of Rust code in the terminal.

use nu_ansi_term::{Color, Style};

use crate::notebook::highlight::{Kind, tokens};

/// The colour of a token.
pub fn colour(kind: Kind) -> Style {
    match kind {
        Kind::Comment => Color::DarkGray,
        Kind::Text => Color::Green,
        Kind::Number => Color::LightBlue,
        Kind::Keyword => Color::Magenta,
        Kind::Type | Kind::Lifetime | Kind::Attribute => Color::Yellow,
        Kind::Function | Kind::Macro => Color::Cyan,
        Kind::Space | Kind::Name | Kind::Punctuation => return Style::new(),
    }
    .normal()
}

/// Rust code in colours.
pub fn rust(code: &str) -> String {
    tokens(code)
        .into_iter()
        .map(|token| colour(token.kind).paint(token.text).to_string())
        .collect()
}

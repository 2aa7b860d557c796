//! How commands show what they found: text, with HTML beside it.

use serde_json::Value;

use crate::html::escape;
use crate::session::engine::Done;
use crate::session::event::Display;

/// A display of text with HTML beside it.
pub(super) fn page(plain: String, html: String) -> Display {
    let mut display = Display::text(plain);
    display
        .data
        .insert("text/html".to_owned(), Value::String(html));
    display
}

/// Two columns as text and as an HTML table.
pub(super) fn two_columns(rows: &[(String, String)]) -> Display {
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut plain = String::new();
    let mut html = String::from("<table style=\"text-align:left\">");
    for (name, text) in rows {
        let padding = " ".repeat(width - name.chars().count());
        plain += &format!("{name}{padding}  {text}\n");
        html += &format!(
            "<tr><td style=\"text-align:left;white-space:pre\"><code>{}</code></td>\
             <td style=\"text-align:left\">{}</td></tr>",
            escape(name),
            escape(text)
        );
    }
    html += "</table>";
    page(plain.trim_end().to_owned(), html)
}

/// The answer of a command of the engine.
pub(super) fn say(done: &mut Done, text: &str) {
    done.shown.push(Display::text(text.trim_end()));
}

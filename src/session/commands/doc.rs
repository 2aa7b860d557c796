//! `:doc NAME`, `?NAME` and `??NAME`: what is known of a name. Front ends with a pager or a screen of so many rows show it their own way.

use super::Call;
use crate::session::event::Display;
use crate::session::outcome::CellOutcome;

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    let name = call.arguments;
    if name.is_empty() {
        return call.refuse("there is no name; write `?NAME`");
    }
    let found = match call.session.inspect(name, name.len()) {
        Ok(Some(found)) => found,
        Ok(None) => return call.refuse(&format!("nothing is known of `{name}`")),
        Err(error) => return call.refuse(&error.to_string()),
    };
    let mut display = Display::text(found.plain);
    for (mime, text) in [("text/markdown", found.markdown), ("text/html", found.html)] {
        display.data.insert(mime.to_owned(), text.into());
    }
    call.done(Some(display))
}

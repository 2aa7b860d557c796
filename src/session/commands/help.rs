//! `:help`: the table of commands. The REPL adds its keys.

use super::show::two_columns;
use super::{Call, commands};
use crate::session::outcome::CellOutcome;

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    let table = two_columns(&commands());
    call.done(Some(table))
}

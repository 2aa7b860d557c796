//! `:quit`: the REPL leaves. Nothing else can: a notebook's later cells would not run without a word.

use super::Call;
use crate::session::outcome::CellOutcome;

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    call.refuse("only a terminal (`glassbox repl`) can be left so; a notebook ends with its last cell, a kernel when it is shut down")
}

//! `:vars`: a table of the variables, and the items that are set aside. Names and types are known here; shapes, sizes and values are asked of the prelude by
//! a cell that borrows every variable.

use super::Call;
use super::show::{page, two_columns};
use crate::session::outcome::{CellErrorKind, CellOutcome};
use crate::session::{Display, Event, Variable};

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    let variables = call.session.variables();
    let aside = call.session.set_aside();
    if !aside.is_empty() {
        let lines: Vec<String> = aside.into_iter().map(|(_, said)| said).collect();
        (call.sink)(Event::Display(Display::text(lines.join("\n"))));
    }
    if variables.is_empty() {
        let none = "no variables yet".to_owned();
        return call.done(Some(page(none.clone(), none)));
    }
    let outcome = call
        .session
        .evaluate_aside(&question(&variables), call.sink);
    match &outcome.status {
        // A variable that cannot even be borrowed for a look: what is known here is still worth showing.
        Err(error) if error.kind == CellErrorKind::Compile => {
            let table = names_and_types(&variables);
            call.done(Some(table))
        }
        _ => outcome,
    }
}

/// The cell that makes the table, with no statement that could bind a name.
fn question(variables: &[Variable]) -> String {
    let mut cell = String::from(
        "({ use ::glassbox_prelude::variables::{ByParameters as _, ByShape as _, BySize as _, Seen, Variables}; \
         Variables::new()",
    );
    for Variable { name, type_name } in variables {
        cell += &format!("\n.with({name:?}, {type_name:?}, (&&&Seen(&{name})).summary())");
    }
    cell + " })"
}

fn names_and_types(variables: &[Variable]) -> Display {
    let rows = variables
        .iter()
        .map(|variable| (variable.name.clone(), variable.type_name.clone()));
    two_columns(&rows.collect::<Vec<_>>())
}

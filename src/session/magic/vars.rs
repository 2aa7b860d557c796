//! `:vars`: a table of the variables. Names and types are known here; shapes, sizes and values are asked of the prelude by
//! a cell that borrows every variable.

use super::{Call, escape, page};
use crate::session::Variable;
use crate::session::outcome::{CellErrorKind, CellOutcome};

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    let variables = call.session.variables();
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

fn names_and_types(variables: &[Variable]) -> crate::session::Display {
    let rows: Vec<(String, String)> = variables
        .iter()
        .map(|variable| (variable.name.clone(), variable.type_name.clone()))
        .collect();
    let html = rows
        .iter()
        .map(|(name, ty)| {
            format!(
                "<tr><td><code>{}</code></td><td><code>{}</code></td></tr>",
                escape(name),
                escape(ty)
            )
        })
        .collect::<String>();
    let mut table = super::two_columns(&rows);
    table.data.insert(
        "text/html".to_owned(),
        format!("<table><tr><th>name</th><th>type</th></tr>{html}</table>").into(),
    );
    table
}

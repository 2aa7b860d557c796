//! `:replay`: runs the cells again that defined what was lost, with those that they depend on.
//!
//! `:replay` takes all that is lost, `:replay NAME…` these variables whether lost or not, `list` only says what would run,
//! and `all` adds the cells that use a variable without defining it: they may have changed it (trained it) unseen.

use std::collections::BTreeSet;

use super::Call;
use super::show::two_columns;
use crate::session::event::{Event, StreamName};
use crate::session::outcome::CellOutcome;

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    let mut names: Vec<String> = call
        .arguments
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let mut take = |word: &str| {
        let before = names.len();
        names.retain(|name| name != word);
        names.len() < before
    };
    let (list, all) = (take("list"), take("all"));
    if names.is_empty() {
        names = call.session.log().lost_names();
    }
    if names.is_empty() {
        return call
            .refuse("nothing is lost; `:replay NAME` runs the cells again that define a variable");
    }
    let mut present: BTreeSet<String> = call
        .session
        .variables()
        .into_iter()
        .map(|variable| variable.name)
        .collect();
    present.retain(|name| !names.contains(name));
    let plan = call.session.log().plan(&names, &present);
    let mut places = plan.cells.clone();
    if all {
        places.extend(&plan.mentions);
        places.sort_unstable();
    }
    let cells: Vec<(String, String)> = places
        .iter()
        .filter_map(|&place| call.session.log().cells().get(place))
        .map(|cell| (cell.headline().to_owned(), cell.code.clone()))
        .collect();
    if cells.is_empty() {
        return call.refuse(&format!(
            "no cell that ended well defines {}",
            plan.unknown.join(", ")
        ));
    }
    if list {
        let rows: Vec<(String, String)> = cells
            .into_iter()
            .enumerate()
            .map(|(number, (headline, _))| ((number + 1).to_string(), headline))
            .collect();
        let table = two_columns(&rows);
        return call.done(Some(table));
    }
    let left_out = plan.mentions.len() * usize::from(!all);
    replay(call, &cells, left_out, &names)
}

fn replay(
    call: Call<'_>,
    cells: &[(String, String)],
    left_out: usize,
    names: &[String],
) -> CellOutcome {
    let mut phases = Vec::new();
    for (number, (headline, code)) in cells.iter().enumerate() {
        say(
            call.sink,
            format!("replay {} of {}: {headline}\n", number + 1, cells.len()),
        );
        let outcome = call.session.evaluate_again(code, &mut |event| {
            // Only the last cell of a front end has a value; here it is one display among others.
            (call.sink)(match event {
                Event::Result(display) => Event::Display(display),
                other => other,
            });
        });
        phases.extend(outcome.phases);
        if let Err(mut error) = outcome.status {
            error
                .traceback
                .insert(0, format!("replaying the cell `{headline}`:"));
            return call.outcome(Err(error), phases);
        }
    }
    if left_out > 0 {
        let (cells, were) = match left_out {
            1 => ("1 cell".to_owned(), "was"),
            n => (format!("{n} cells"), "were"),
        };
        say(
            call.sink,
            format!(
                "{cells} that used what came back {were} not run; `:replay all {}` runs such cells too\n",
                names.join(" ")
            ),
        );
    }
    call.outcome(Ok(()), phases)
}

fn say(sink: &mut (dyn FnMut(Event) + Send), text: String) {
    sink(Event::Stream {
        name: StreamName::Stdout,
        text,
    });
}

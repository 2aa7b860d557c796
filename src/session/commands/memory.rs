//! `:mem`: what the session's two processes and the machine have.

use std::fs;

use super::Call;
use super::show::two_columns;
use crate::figures::size;
use crate::session::outcome::CellOutcome;

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            rows.push((name.to_owned(), size(value)));
        }
    };
    let cells = call.session.interrupter().child_id().and_then(status);
    let field =
        |text: &Option<String>, name| text.as_deref().and_then(|text| kilobytes(text, name));
    row("cells, now", field(&cells, "VmRSS"));
    row("cells, at most", field(&cells, "VmHWM"));
    row(
        "compiler front end",
        field(&status(std::process::id()), "VmRSS"),
    );
    let machine = fs::read_to_string("/proc/meminfo").ok();
    row("free for more", field(&machine, "MemAvailable"));
    row("machine", field(&machine, "MemTotal"));
    if rows.is_empty() {
        return call.refuse("the system does not tell (/proc cannot be read)");
    }
    rows.push((
        String::new(),
        "freed tensors stay with the process for the next ones; `:vars` shows what variables hold"
            .to_owned(),
    ));
    let table = two_columns(&rows);
    call.done(Some(table))
}

fn status(process: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{process}/status")).ok()
}

/// The bytes in a line such as `VmRSS:      1234 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_name() {
        let text = "VmRSSx:\t1 kB\nVmRSS:\t   12 kB\nThreads:\t3\n";
        assert_eq!(kilobytes(text, "VmRSS"), Some(12 * 1024));
        assert_eq!(kilobytes(text, "Threads"), None);
        assert_eq!(kilobytes(text, "VmHWM"), None);
    }
}

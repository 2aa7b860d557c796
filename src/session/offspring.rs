//! Processes that cells start: found in `/proc`, and ended with the process that runs cells.
//!
//! The rule: what is in the group of that process ends with it, and so does what descends from it and is in a group of its own. What
//! left the session of the terminal (`setsid`), as a daemon does, has left ours too and stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// So many times is looked for what was begun while the others were ended.
const ROUNDS: usize = 10;

/// Processes with the times of their start, by which an id that was given again is told apart.
#[derive(Debug, Default)]
pub(crate) struct Offspring(Vec<(i32, u64)>);

/// What cells of the process `root` have started and is still there.
pub(crate) fn of(root: u32) -> Offspring {
    let Ok(root) = i32::try_from(root) else {
        return Offspring::default();
    };
    // SAFETY: no memory is involved.
    let (own, session) = unsafe { (libc::getpid(), libc::getsid(0)) };
    let all: BTreeMap<i32, Process> = processes();
    let mut found = BTreeSet::from([root]);
    loop {
        let more: Vec<i32> = all
            .iter()
            .filter(|(pid, process)| {
                process.session == session
                    && !found.contains(*pid)
                    && (process.group == root || found.contains(&process.parent))
            })
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    let found = found.into_iter().filter(|pid| *pid != root && *pid != own);
    Offspring(
        found
            .filter_map(|pid| Some((pid, all.get(&pid)?.start)))
            .collect(),
    )
}

/// Ends what cells of the process `root` have started, and what that starts meanwhile.
pub(crate) fn end(root: u32) {
    for _ in 0..ROUNDS {
        let found = of(root);
        if found.0.is_empty() {
            return;
        }
        found.signal(libc::SIGKILL);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

impl Offspring {
    /// Sends each a signal, if it is still the same process.
    pub(crate) fn signal(&self, signal: i32) {
        for (pid, start) in &self.0 {
            if process(*pid).is_some_and(|found| found.start == *start) {
                // SAFETY: no memory is involved. The process is one that a cell started.
                unsafe { libc::kill(*pid, signal) };
            }
        }
    }
}

struct Process {
    parent: i32,
    group: i32,
    session: i32,
    start: u64,
}

fn processes() -> BTreeMap<i32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, process(pid)?))).collect()
}

/// A process that has not ended.
fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (name) state parent group session …; the name may hold spaces and parentheses. The start is the 22nd field.
    let rest = stat.get(stat.rfind(')')? + 1..)?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    if ["Z", "X"].contains(fields.first()?) {
        return None;
    }
    Some(Process {
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        start: fields.get(19)?.parse().ok()?,
    })
}

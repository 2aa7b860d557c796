//! Commands: what the host tells the child to do, a line each.

use std::fmt;
use std::path::PathBuf;

use crate::Comm;

/// One command.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// The next cell has this number for the host, 0 for one that is not the user's. Nothing is replied.
    Cell(u64),
    /// Load the library of a cell and call its function.
    Run {
        /// The library.
        library: PathBuf,
        /// The name of the function.
        function: String,
    },
    /// Show a variable of the store as a cell does that names it and nothing else.
    Show {
        /// Its name.
        name: String,
    },
    /// Pass on a message to a control.
    Comm(Comm),
}

const CELL: &str = "CELL ";
const RUN: &str = "LOAD_AND_RUN ";
const SHOW: &str = "SHOW ";
const COMM: &str = "COMM ";

impl fmt::Display for Command {
    /// The line, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Cell(number) => write!(f, "{CELL}{number}"),
            Command::Run { library, function } => {
                write!(f, "{RUN}{} {function}", library.display())
            }
            Command::Show { name } => write!(f, "{SHOW}{name}"),
            // JSON as it is written here is one line.
            Command::Comm(comm) => {
                let json = serde_json::to_string(comm).map_err(|_| fmt::Error)?;
                write!(f, "{COMM}{json}")
            }
        }
    }
}

impl Command {
    /// Reads a line; `None` for what is no command.
    pub fn parse(line: &str) -> Option<Command> {
        let line = line.trim_end_matches('\n');
        if let Some(number) = line.strip_prefix(CELL) {
            return number.parse().ok().map(Command::Cell);
        }
        if let Some(json) = line.strip_prefix(COMM) {
            return serde_json::from_str(json).ok().map(Command::Comm);
        }
        if let Some(name) = line.strip_prefix(SHOW) {
            let name = name.to_owned();
            return Some(Command::Show { name });
        }
        let (library, function) = line.strip_prefix(RUN)?.rsplit_once(' ')?;
        Some(Command::Run {
            library: library.into(),
            function: function.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::CommKind;

    #[test]
    fn every_command_is_read_back() {
        let run = Command::Run {
            library: "/a folder/cell.so".into(),
            function: "run_user_code_1".to_owned(),
        };
        let comm = Command::Comm(Comm {
            kind: CommKind::Open,
            id: "1".to_owned(),
            target: "t".to_owned(),
            data: json!({"text": "two\nlines"}),
        });
        let show = Command::Show {
            name: "r#type".to_owned(),
        };
        for command in [Command::Cell(7), run, show, comm] {
            let line = command.to_string();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(Command::parse(&format!("{line}\n")), Some(command));
        }
        assert_eq!(Command::parse("something else"), None);
    }
}

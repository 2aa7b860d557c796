//! The lines at the top of a cell that are not Rust: evcxr's commands (`:dep`, `:clear`) and shell commands (`!ls`).

use std::process::Command;

use super::super::syntax;

/// One such line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Name without the colon, and what follows it.
    Colon(String, String),
    /// Text for the shell.
    Shell(String),
}

/// The commands, and what each does. Those that only change how evcxr itself calls cargo are not among them.
pub(crate) const COMMANDS: [(&str, &str); 17] = [
    (
        ":clear",
        "forget all variables and items, and start a new process",
    ),
    (":dep", "add a crate, as in `:dep regex = \"1.0\"`"),
    (
        ":doc",
        "the documentation of a variable, keyword, type or module",
    ),
    (
        ":env",
        "set an environment variable (KEY=VALUE) for the process that runs cells, which is started anew",
    ),
    (":explain", "rustc's explanation of the last error"),
    (":help", "this table"),
    (":last_compile_dir", "the folder of the last compilation"),
    (":last_error_json", "the last compilation's errors as JSON"),
    (
        ":load_config",
        "run evcxr's startup configuration (init.evcxr, prelude.rs)",
    ),
    (":opt", "set how much cells are optimised: 0, 1, 2 or 3"),
    (":quit", "leave"),
    (
        ":restart",
        "start the process that runs cells anew; variables go, items are kept",
    ),
    (":show_deps", "the crates that were added"),
    (":t", "the same as :type"),
    (
        ":timing",
        "show how long each phase of a cell takes, or no longer",
    ),
    (":type", "the type of a variable or an expression"),
    (":vars", "the variables and their types"),
];

/// The orders at the top of a cell, and the Rust code after them.
pub(crate) fn split(cell: &str) -> (Vec<Order>, &str) {
    let rust = syntax::skip_commands(cell);
    let orders = cell[..cell.len() - rust.len()].lines().filter_map(|line| {
        if let Some(command) = line.strip_prefix('!') {
            return Some(Order::Shell(command.to_owned()));
        }
        let line = line.trim().strip_prefix(':')?;
        let (name, arguments) = line.split_once(' ').unwrap_or((line, ""));
        Some(Order::Colon(name.to_owned(), arguments.trim().to_owned()))
    });
    (orders.collect(), rust)
}

/// Name and configuration of a dependency, as in a manifest.
pub(crate) fn dependency(arguments: &str) -> Result<(String, String), String> {
    let (name, config) = match arguments.split_once('=') {
        Some((name, config)) => (name.trim(), config.trim()),
        None => (arguments.trim(), "\"*\""),
    };
    if name.is_empty() || config.is_empty() {
        return Err("write `:dep NAME = \"VERSION\"`, as in a manifest".to_owned());
    }
    if name.starts_with(['.', '/', '~']) {
        return local(name);
    }
    if name.contains(char::is_whitespace) {
        return Err(format!(
            "`{name}` is no name of a package; write `:dep NAME = \"VERSION\"`"
        ));
    }
    Ok((name.to_owned(), config.to_owned()))
}

/// The package in a folder.
fn local(folder: &str) -> Result<(String, String), String> {
    let folder = std::path::absolute(folder).map_err(|error| format!("{folder}: {error}"))?;
    let manifest = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .map_err(|error| format!("cannot read {}: {error}", manifest.display()))?;
    let name = text
        .lines()
        .skip_while(|line| line.trim() != "[package]")
        .find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == "name").then(|| value.trim().trim_matches('"').to_owned())
        })
        .ok_or_else(|| format!("{} names no package", manifest.display()))?;
    let path = serde_json::Value::from(folder.to_string_lossy().into_owned());
    Ok((name, format!("{{ path = {path} }}")))
}

/// What a shell command wrote.
pub(crate) fn shell(command: &str) -> Result<String, String> {
    let output = Command::new("sh")
        .args(["-c", command])
        .output()
        .map_err(|error| format!("cannot run the shell: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(said.into_owned())
    } else {
        Err(format!(
            "the shell command failed ({}): {}",
            output.status,
            said.trim_end()
        ))
    }
}

/// The cells of evcxr's own start-up configuration.
pub(crate) fn configuration() -> Vec<String> {
    let Some(folder) = evcxr::config_dir() else {
        return Vec::new();
    };
    ["init.evcxr", "prelude.rs"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(folder.join(name)).ok())
        .collect()
}

/// Two columns as text.
pub(crate) fn table(rows: impl Iterator<Item = (String, String)>, separator: &str) -> String {
    rows.map(|(left, right)| format!("{left}{separator}{right}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_stand_at_the_top() {
        let (orders, rust) = split(":dep a = \"1\"\n// note\n!ls -l\n  :vars\nlet x = 1;\n:no");
        assert_eq!(
            orders,
            [
                Order::Colon("dep".into(), "a = \"1\"".into()),
                Order::Shell("ls -l".into()),
                Order::Colon("vars".into(), String::new()),
            ]
        );
        assert_eq!(rust, "let x = 1;\n:no");
    }

    #[test]
    fn dependencies_are_read_as_in_a_manifest() {
        let pair = |name: &str, config: &str| Ok((name.to_owned(), config.to_owned()));
        assert_eq!(dependency("rand"), pair("rand", "\"*\""));
        assert_eq!(
            dependency("rand = { version = \"1\", features = [\"a\"] }"),
            pair("rand", "{ version = \"1\", features = [\"a\"] }")
        );
        assert!(dependency("").is_err() && dependency("a b").is_err());
        assert!(dependency("./nowhere").unwrap_err().contains("cannot read"));
    }
}

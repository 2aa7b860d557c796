//! `:dep NAME = "VERSION"`: adds a crate, as a manifest does. Several lines are built together.

use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(
    engine: &mut RustcEngine,
    arguments: &str,
    _: &mut Done,
) -> Result<(), EvalError> {
    let (name, config) = dependency(arguments).map_err(EvalError::Refused)?;
    engine.depend(name, config);
    Ok(())
}

/// Name and configuration of a dependency, as in a manifest.
fn dependency(arguments: &str) -> Result<(String, String), String> {
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
    Ok((name.to_owned(), from_here(config)?))
}

/// The configuration with a relative `path` seen from the folder that the session was started in, as a notebook's author sees it.
fn from_here(config: &str) -> Result<String, String> {
    let key = config.match_indices("path").find_map(|(at, key)| {
        let before = config[..at].trim_end();
        let value = config[at + key.len()..].trim_start().strip_prefix('=')?;
        let text = value.trim_start().strip_prefix('"')?;
        let start = config.len() - text.len();
        (before.ends_with(['{', ','])).then_some(start..start + text.find('"')?)
    });
    let Some(place) = key else {
        return Ok(config.to_owned());
    };
    let folder = &config[place.clone()];
    let whole = std::path::absolute(folder).map_err(|error| format!("{folder}: {error}"))?;
    let whole = serde_json::Value::from(whole.to_string_lossy().into_owned()).to_string();
    let whole = whole.trim_matches('"');
    Ok(format!(
        "{}{whole}{}",
        &config[..place.start],
        &config[place.end..]
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_as_in_a_manifest() {
        let pair = |name: &str, config: &str| Ok((name.to_owned(), config.to_owned()));
        assert_eq!(dependency("rand"), pair("rand", "\"*\""));
        assert_eq!(
            dependency("rand = { version = \"1\", features = [\"a\"] }"),
            pair("rand", "{ version = \"1\", features = [\"a\"] }")
        );
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            dependency("a = { features = [\"path\"], path = \"../b c\", package = \"p\" }"),
            pair(
                "a",
                &format!(
                    "{{ features = [\"path\"], path = \"{}/../b c\", package = \"p\" }}",
                    here.display()
                )
            )
        );
        assert_eq!(
            dependency("a = { path = \"/b\" }"),
            pair("a", "{ path = \"/b\" }")
        );
        assert!(dependency("").is_err() && dependency("a b").is_err());
        assert!(dependency("./nowhere").unwrap_err().contains("cannot read"));
    }
}

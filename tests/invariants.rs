//! House rules that can be checked: what each half of the project must not depend on, and where wire formats live.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The `[dependencies]` names of a manifest, read line by line (the tables here have no dotted headings).
fn dependencies(manifest: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(manifest).unwrap();
    let mut inside = false;
    let mut names = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies]");
        } else if inside
            && let Some((name, _)) = line.split_once('=')
            && !name.trim_start().starts_with('#')
        {
            names.push(name.trim().trim_end_matches(".workspace").to_owned());
        }
    }
    assert!(
        names.len() > 5,
        "{} names too few dependencies: the check reads it wrongly",
        manifest.display()
    );
    names
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

#[test]
fn the_host_knows_nothing_of_tensors() {
    let names = dependencies(&root().join("Cargo.toml"));
    for banned in [
        "candle-core",
        "candle-nn",
        "candle-transformers",
        "tokenizers",
        "glassbox-prelude",
    ] {
        assert!(
            !names.iter().any(|name| name == banned),
            "the host depends on {banned}"
        );
    }
    for (path, text) in sources(&root().join("src")) {
        assert!(
            !text.contains("use candle_core"),
            "{} uses candle",
            path.display()
        );
    }
}

/// They take two thirds of the time that building everything takes, and no cell needs them: they are the analyst's.
#[test]
fn the_host_is_built_without_rust_analyzer_and_evcxr() {
    let told = std::process::Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            "glassbox",
            "--edges",
            "normal,build",
        ])
        .args(["--prefix", "none", "--format", "{p}", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    let packages = String::from_utf8_lossy(&told.stdout);
    assert!(
        packages.lines().count() > 100,
        "{}",
        String::from_utf8_lossy(&told.stderr)
    );
    for banned in ["evcxr", "ra_ap_ide", "ra_ap_hir", "ra_ap_base_db", "salsa"] {
        let found = packages.lines().find(|line| line.starts_with(banned));
        assert_eq!(found, None, "the host depends on {banned}");
    }
}

#[test]
fn the_prelude_knows_nothing_of_jupyter_or_evcxr() {
    let names = dependencies(&root().join("prelude/Cargo.toml"));
    for banned in [
        "evcxr",
        "evcxr_jupyter",
        "zeromq",
        "jupyter-protocol",
        "jupyter-zmq-client",
    ] {
        assert!(
            !names.iter().any(|name| name == banned),
            "the prelude depends on {banned}"
        );
    }
}

#[test]
fn one_module_knows_jupyters_wire_format() {
    for (path, text) in sources(&root().join("src")) {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        if !relative.starts_with("kernel") {
            assert!(
                !text.contains("jupyter_protocol") && !text.contains("jupyter_zmq_client"),
                "{} speaks Jupyter's protocol outside src/kernel",
                path.display()
            );
        }
    }
}

/// The code of a file: without comments, and without its tests.
fn code(text: &str) -> String {
    let end = text.find("\n#[cfg(test)]").unwrap_or(text.len());
    let lines = text[..end].lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The files of both halves whose code holds one of these words, relative to the project.
fn files_that_say(words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["src", "browser/src", "prelude/src", "prelude/wire/src"] {
        for (path, text) in sources(&root().join(folder)) {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            let test = name.ends_with("/tests.rs") || name.ends_with("_tests.rs");
            if !test && words.iter().any(|word| code(&text).contains(word)) {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_wire_is_spelled_in_one_crate_without_heavy_dependencies() {
    let names = std::fs::read_to_string(root().join("prelude/wire/Cargo.toml")).unwrap();
    let below = names.split("[dependencies]").nth(1).unwrap_or_default();
    let dependencies: Vec<&str> = below
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once(" =")?.0))
        .collect();
    assert_eq!(dependencies, ["serde", "serde_json"]);
    // Frames, control lines, commands, the names of pipes and of the child's variables.
    for (words, home) in [
        (&["_GBX"] as &[&str], "frame"),
        (
            &[
                "EVCXR_PANIC",
                "EVCXR_ERROR",
                "EVCXR_EXECUTION",
                "\"GLASSBOX_STORED",
            ],
            "control",
        ),
        (&["LOAD_AND_RUN"], "command"),
        (
            &[
                "EVCXR_BEGIN_CONTENT",
                "EVCXR_INPUT_REQUEST",
                "EVCXR_IS_RUNTIME",
            ],
            "evcxr",
        ),
        (
            &["GLASSBOX_NONCE", "GLASSBOX_SESSION_DIR", "GLASSBOX_COMMS"],
            "names",
        ),
    ] {
        let home = format!("prelude/wire/src/{home}.rs");
        assert_eq!(files_that_say(words), [home], "{words:?}");
    }
}

#[test]
fn events_are_written_in_one_place_of_each_process_s_code_and_read_in_one() {
    let mut writers = files_that_say(&["frame::write("]);
    writers.retain(|name| !name.starts_with("prelude/wire"));
    assert_eq!(writers.len(), 2, "{writers:?}");
    assert!(
        writers.contains(&"prelude/src/session/process.rs".to_owned()),
        "{writers:?}"
    );
    assert!(
        writers.iter().any(|name| name.ends_with("/tell.rs")),
        "{writers:?}"
    );
    let readers = files_that_say(&["frame::read("]);
    assert!(
        readers.len() == 1 && readers[0].ends_with("/frames.rs"),
        "{readers:?}"
    );
}

/// What the prelude knows of Jupyter is ipywidgets' description of a control, and nothing of messages, sockets or notebooks.
#[test]
fn the_prelude_names_jupyter_only_where_controls_are_described() {
    for (path, text) in sources(&root().join("prelude/src")) {
        let relative = path.strip_prefix(root().join("prelude/src")).unwrap();
        let code = code(&text).to_lowercase();
        for word in [
            "ipynb",
            "zmq",
            "execute_request",
            "iopub",
            "msg_type",
            "jupyter.widget",
            "@jupyter",
        ] {
            let allowed = word.contains("jupyter") && relative.starts_with("widgets");
            assert!(
                allowed || !code.contains(word),
                "{} says {word}",
                path.display()
            );
        }
    }
}

#[test]
fn what_engine_and_front_ends_share_is_used_one_way() {
    // The engine knows nothing of commands, front ends or the session around it; reports know nothing of the engine.
    for (folder, unknown) in [
        (
            "src/session/engine",
            &[
                "commands::",
                "crate::kernel",
                "crate::repl",
                "crate::notebook",
            ] as &[&str],
        ),
        (
            "src/session",
            &[
                "crate::kernel",
                "crate::repl",
                "crate::notebook",
                "crate::commands",
            ],
        ),
        (
            "src/notebook",
            &["crate::kernel", "crate::repl", "crate::commands"],
        ),
        (
            "src/kernel",
            &["crate::repl", "crate::notebook", "crate::commands"],
        ),
    ] {
        let folder = root().join(folder);
        assert!(folder.is_dir(), "{} has moved", folder.display());
        for (path, text) in sources(&folder) {
            for word in unknown {
                assert!(
                    !code(&text).contains(word),
                    "{} uses {word}",
                    path.display()
                );
            }
        }
    }
}

/// A call of cargo, rustc or rustup from the notebook's folder, or with the user's wrappers, would run what a stranger wrote there.
#[test]
fn programs_are_called_in_one_way() {
    // Our own binary in another role, what the user types behind `!`, and rustc by cargo's order.
    let own = [
        "src/kernel/stock.rs",
        "src/programs.rs",
        "src/session/commands/shell.rs",
        "src/session/driver.rs",
        "src/session/engine/dependencies/wrapper.rs",
    ];
    let mut found = files_that_say(&[
        "Command::new(",
        "which::",
        "posix_spawn",
        "execv",
        "libc::fork",
    ]);
    found.retain(|file| file.starts_with("src/"));
    found.sort();
    assert_eq!(found, own, "others use `programs`");
    for (file, allowed) in [
        ("src/kernel/stock.rs", "Command::new(analyst)"),
        ("src/session/driver.rs", "Command::new(program)"),
        ("src/session/commands/shell.rs", "Command::new(\"sh\")"),
        (
            "src/session/engine/dependencies/wrapper.rs",
            "Command::new(&rustc)",
        ),
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let code = code(&text);
        assert_eq!(code.matches("Command::new(").count(), 1, "{file}");
        assert!(code.contains(allowed), "{file} calls something else");
    }
}

/// Folders for temporary files may be everybody's: where they are is looked at in one place.
#[test]
fn temporary_folders_are_chosen_in_one_place() {
    let found = files_that_say(&["temp_dir(", "tempfile::tempdir()", ".tempdir()", "\"/tmp"]);
    let found: Vec<&String> = found
        .iter()
        .filter(|file| file.starts_with("src/"))
        .collect();
    assert_eq!(found, ["src/session/place.rs"]);
}

#[test]
fn every_source_file_says_what_it_is_for() {
    for folder in [
        "analyst/src",
        "analyst/wire/src",
        "src",
        "browser/src",
        "browser/examples",
        "prelude/src",
        "prelude/wire/src",
        "prelude/examples",
    ] {
        for (path, text) in sources(&root().join(folder)) {
            assert!(text.starts_with("//!"), "{} has no header", path.display());
        }
    }
}

/// The first sentence of a file's header.
fn purpose(text: &str) -> String {
    let header = text.lines().take_while(|line| {
        let rest = line.strip_prefix("//!");
        rest.is_some_and(|rest| !rest.trim().is_empty())
    });
    let words: Vec<&str> = header
        .flat_map(|line| line.trim_start_matches("//!").split_whitespace())
        .collect();
    let paragraph = words.join(" ");
    let end = paragraph.find(". ").unwrap_or(paragraph.len());
    paragraph[..end].trim_end_matches(['.', ':']).to_owned()
}

/// The code map as the tree has it: each folder with its files, each file with the first sentence of its header.
fn code_map() -> String {
    let mut folders = std::collections::BTreeMap::<String, Vec<(String, String)>>::new();
    for folder in [
        "analyst/src",
        "analyst/wire/src",
        "src",
        "browser/src",
        "prelude/src",
        "prelude/wire/src",
    ] {
        for (path, text) in sources(&root().join(folder)) {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            let (folder, file) = name.rsplit_once('/').unwrap();
            let file = (file.to_owned(), purpose(&text));
            folders.entry(folder.to_owned()).or_default().push(file);
        }
    }
    let mut map = String::new();
    for (folder, mut files) in folders {
        files.sort();
        map += &format!("\n### `{folder}`\n\n");
        for (file, purpose) in files {
            map += &format!("- `{file}`: {purpose}\n");
        }
    }
    map
}

/// `GLASSBOX_WRITE_MAP=1` writes the map anew instead.
#[test]
fn the_code_map_names_each_file_once() {
    const HEADING: &str = "\n## Code map\n";
    let file = root().join("ARCHITECTURE.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let start = page.find(HEADING).expect("ARCHITECTURE.md has a code map") + HEADING.len();
    // Its own first paragraph says what it is.
    let list = start + page[start..].find("\n### ").unwrap_or(page.len() - start);
    let end = page[list..]
        .find("\n## ")
        .map_or(page.len(), |end| list + end);
    let map = code_map();
    if std::env::var_os("GLASSBOX_WRITE_MAP").is_some() {
        let whole = format!("{}{map}{}", &page[..list], &page[end..]);
        std::fs::write(&file, whole).unwrap();
        return;
    }
    let (told, there): (Vec<&str>, Vec<&str>) = (
        page[list..end].trim().lines().collect(),
        map.trim().lines().collect(),
    );
    let missing: Vec<&&str> = there.iter().filter(|line| !told.contains(line)).collect();
    let stale: Vec<&&str> = told.iter().filter(|line| !there.contains(line)).collect();
    assert!(
        missing.is_empty() && stale.is_empty() && told.len() == there.len(),
        "ARCHITECTURE.md's code map is not that of the tree (GLASSBOX_WRITE_MAP=1 writes it anew)\nmissing: {missing:#?}\nstale: {stale:#?}"
    );
}

/// Whoever follows CONTRIBUTING.md finds the files that it names, and those that it gives the length of are about as long.
#[test]
fn contributing_names_files_that_are_there() {
    let text = std::fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let (mut named, mut lengths) = (0, 0);
    let mut pieces = text.split('`').skip(1);
    while let Some(name) = pieces.next() {
        let behind = pieces.next().unwrap_or_default();
        let is_path = ["src/", "prelude/", "scripts/", "tests/"]
            .iter()
            .any(|start| name.starts_with(start));
        if !is_path || name.contains("NAME") || name.contains(char::is_whitespace) {
            continue;
        }
        let path = root().join(name.trim_end_matches('/'));
        assert!(
            path.exists(),
            "CONTRIBUTING.md names {name}, which is not there"
        );
        named += 1;
        let length = behind
            .strip_prefix(" (")
            .and_then(|rest| rest.split_once(')'));
        if let Some(said) = length.and_then(|(number, _)| number.parse::<usize>().ok())
            && path.extension().is_some_and(|end| end == "rs")
            && !name.contains("examples")
        {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            assert!(
                (3 * said / 4..=4 * said / 3 + 1).contains(&lines),
                "CONTRIBUTING.md says of {name} that it has {said} lines, it has {lines}"
            );
            lengths += 1;
        }
    }
    assert!(
        named > 20 && lengths > 5,
        "{named} files and {lengths} lengths were read"
    );
}

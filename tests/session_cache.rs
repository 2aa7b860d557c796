//! The prelude's cache: built once, shared, repaired, and its failures told, with a small prelude that builds quickly.

mod session_support;

use std::fs;
use std::path::Path;
use std::process::Command;

use session_support::analyst;
use session_support::place::Place;

fn built(report: &str) -> bool {
    report.contains("BuildingPrelude")
}

#[test]
fn a_second_session_builds_nothing_and_statics_are_single() {
    let place = Place::new();
    let (mut first, report) = place.start().unwrap();
    assert!(built(&report), "{report}");
    assert_eq!(first.result_of("count()"), "1");
    assert_eq!(
        first.result_of("fn again() -> u64 { count() }\nagain()"),
        "2"
    );
    drop(first);
    let (_second, report) = place.start().unwrap();
    assert!(!built(&report), "{report}");
}

/// A second checkout with older files got the library of the first.
#[test]
fn a_checkout_with_older_files_gets_a_library_of_its_own() {
    let place = Place::new();
    drop(place.start().unwrap());
    let other = Place::new();
    let file = other.source().join("src/lib.rs");
    let changed = fs::read_to_string(&file).unwrap().replace(
        "fetch_add(1, super::Ordering::Relaxed) + 1",
        "fetch_add(1, super::Ordering::Relaxed) + 100",
    );
    fs::write(&file, changed).unwrap();
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for name in ["src/lib.rs", "Cargo.toml"] {
        let file = fs::File::options()
            .write(true)
            .open(other.source().join(name))
            .unwrap();
        file.set_modified(past).unwrap();
    }
    // The same place on disk, as far as cargo's build folder is concerned.
    fs::remove_dir_all(place.source()).unwrap();
    fs::rename(other.source(), place.source()).unwrap();
    let (mut session, report) = place.start().unwrap();
    assert!(built(&report), "{report}");
    assert_eq!(session.result_of("count()"), "100");
}

/// A library that was built from a checkout that is gone by now, or says something else, knew no name of the prelude any more.
#[test]
fn the_checkout_that_a_library_was_built_from_may_go() {
    analyst::beside();
    let place = Place::new();
    let code = "glassbox_prelude::session::con";
    let proposed = |session: &mut session_support::TestSession| {
        let found = session.session.complete(code, code.len()).unwrap();
        found.items.iter().any(|item| item.text == "control")
    };
    let (mut session, _) = place.start().unwrap();
    assert!(proposed(&mut session));
    drop(session);
    // The same words at another place: the library is the same. At the first place others stand now.
    let moved = Place::new();
    let lock = |place: &Place| place.source().join("Cargo.lock");
    fs::copy(lock(&place), lock(&moved)).unwrap();
    fs::write(place.source().join("src/lib.rs"), "").unwrap();
    let config = glassbox::session::SessionConfig {
        prelude_source: Some(moved.source()),
        cache_dir: Some(place.cache()),
        ..Default::default()
    };
    for gone in [false, true] {
        if gone {
            fs::remove_dir_all(place.source()).unwrap();
        }
        let (mut session, report) = session_support::TestSession::try_with(config.clone()).unwrap();
        assert!(!built(&report), "{report}");
        assert!(proposed(&mut session), "gone: {gone}");
    }
}

/// The libraries of other checkouts pushed out the one that a running session used.
#[test]
fn a_library_in_use_outlives_later_builds() {
    let place = Place::new();
    let (mut first, _) = place.start().unwrap();
    let library = place.library();
    let build = |version: u32| {
        let file = place.source().join("src/lib.rs");
        let source = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{source}\n// {version}\n")).unwrap();
        let (_session, report) = place.start().unwrap();
        assert!(built(&report), "{report}");
    };
    (1..=5).for_each(build);
    assert!(library.exists());
    assert_eq!(first.result_of("count()"), "1");
    let libraries = fs::read_dir(place.cache().join("prelude")).unwrap();
    let libraries = libraries.filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.join("libglassbox_prelude.so").exists()
    });
    assert_eq!(libraries.count(), 5, "this one, the newest, and three more");
    drop(first);
    build(6);
    assert!(!library.exists());
}

#[test]
fn a_corrupt_library_is_built_again() {
    let place = Place::new();
    drop(place.start().unwrap());
    for damage in [
        damage_length as fn(&Path),
        damage_header,
        damage_one_bit_of_the_library,
        damage_one_bit_of_what_the_compiler_reads,
        damage_what_the_analyser_reads,
        damage_the_source_that_the_analyser_reads,
        damage_manifest,
        remove,
    ] {
        damage(&place.library());
        let (mut session, report) = place.start().unwrap();
        assert!(built(&report), "{report}");
        assert_eq!(session.result_of("1 + 1"), "2");
    }
}

fn damage_length(library: &Path) {
    fs::OpenOptions::new()
        .write(true)
        .open(library)
        .unwrap()
        .set_len(100)
        .unwrap();
}

fn damage_header(library: &Path) {
    let mut bytes = fs::read(library).unwrap();
    bytes[0] = 0;
    fs::write(library, bytes).unwrap();
}

/// Changes one bit in the middle of a file; size and time stay.
fn damage_one_bit(file: &Path) {
    let time = fs::metadata(file).unwrap().modified().unwrap();
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
    let file = fs::File::options().write(true).open(file).unwrap();
    file.set_modified(time).unwrap();
}

fn damage_one_bit_of_the_library(library: &Path) {
    damage_one_bit(library);
}

fn damage_one_bit_of_what_the_compiler_reads(library: &Path) {
    damage_one_bit(&library.with_extension("rlib"));
}

fn damage_what_the_analyser_reads(library: &Path) {
    damage_one_bit(&library.with_file_name("analysis/glassbox-prelude/Cargo.toml"));
}

fn damage_the_source_that_the_analyser_reads(library: &Path) {
    damage_one_bit(&library.with_file_name("analysis/glassbox-prelude/source.rs"));
}

fn damage_manifest(library: &Path) {
    fs::write(library.with_file_name("manifest.json"), "{").unwrap();
}

fn remove(library: &Path) {
    fs::remove_file(library.with_file_name("manifest.json")).unwrap();
}

#[test]
fn of_two_sessions_on_a_cold_cache_one_builds_and_one_waits() {
    let place = Place::new();
    let reports = std::thread::scope(|scope| {
        let threads =
            [(), ()].map(|()| scope.spawn(|| place.start().map(|(_, report)| report).unwrap()));
        threads.map(|thread| thread.join().unwrap())
    });
    let [one, other] = reports;
    assert!(built(&one) != built(&other), "{one}\n{other}");
    let waited = if built(&one) { &other } else { &one };
    assert!(waited.contains("WaitingForOtherBuild"), "{waited}");
}

#[test]
fn a_prelude_that_does_not_compile_is_reported_with_the_compilers_words() {
    let place = Place::new();
    fs::write(
        place.source().join("src/lib.rs"),
        "pub fn broken() -> u32 { \"text\" }",
    )
    .unwrap();
    let error = place.start().err().unwrap();
    assert!(
        error.contains("the prelude did not build") && error.contains("mismatched types"),
        "{error}"
    );
    assert!(
        !place
            .cache()
            .join("prelude")
            .read_dir()
            .unwrap()
            .any(|entry| entry.unwrap().path().join("manifest.json").exists())
    );
}

#[test]
fn a_cache_that_cannot_be_written_is_reported_with_what_to_do() {
    let place = Place::new();
    // A file where the folder should be: even root cannot write below it.
    fs::write(place.cache(), "").unwrap();
    let error = place.start().err().unwrap();
    assert!(
        error.contains("GLASSBOX_CACHE_DIR") && error.contains("cannot create"),
        "{error}"
    );
}

/// Runs in a process of its own, because PATH is the whole process's.
#[test]
fn without_a_compiler_the_message_says_how_to_get_one() {
    let place = Place::new();
    if std::env::var_os("PATH").is_some_and(|path| path == NO_FOLDER) {
        let error = place.start().err().unwrap();
        assert!(
            error.contains("no Rust compiler found") && error.contains("https://rustup.rs"),
            "{error}"
        );
        return;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "without_a_compiler_the_message_says_how_to_get_one",
        ])
        .env("PATH", NO_FOLDER)
        .status()
        .unwrap();
    assert!(status.success());
}

const NO_FOLDER: &str = "/nonexistent";

/// The copy of the prelude's source that is inside the binary.
static EMBEDDED: glassbox::session::EmbeddedSource =
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// An installed `glassbox` has no checkout: what the prelude is built of must all be in the copy.
#[test]
fn the_copy_inside_the_binary_resolves_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in EMBEDDED {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    let manifest = folder.path().join("prelude/Cargo.toml");
    let output = Command::new("cargo")
        .args([
            "metadata",
            "--offline",
            "--format-version=1",
            "--manifest-path",
        ])
        .arg(&manifest)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let local: Vec<&str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| package["source"].is_null())
        .filter_map(|package| package["manifest_path"].as_str())
        .collect();
    assert!(local.len() >= 2, "{local:?}");
    for manifest in local {
        let manifest = Path::new(manifest).canonicalize().unwrap();
        let inside = folder.path().canonicalize().unwrap();
        assert!(manifest.starts_with(inside), "{}", manifest.display());
        let library = manifest.parent().unwrap().join("src/lib.rs");
        assert!(library.is_file(), "{} is missing", library.display());
    }
}

/// The files of a library of crates have a second name in cargo's folder, where cargo took the damaged ones for good.
#[test]
fn a_corrupt_library_of_added_crates_is_built_again() {
    let place = Place::new();
    let krate = place.folder.path().join("added");
    fs::create_dir_all(krate.join("src")).unwrap();
    let manifest = "[package]\nname = \"added\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    fs::write(krate.join("Cargo.toml"), manifest).unwrap();
    fs::write(krate.join("src/lib.rs"), "pub fn answer() -> u8 { 42 }\n").unwrap();
    let cell = format!(
        ":dep added = {{ path = {:?} }}\nadded::answer()",
        krate.display().to_string()
    );
    let (mut session, _) = place.start().unwrap();
    assert_eq!(session.result_of(&cell), "42");
    drop(session);
    let libraries = place.library().with_file_name("crates").join("libraries");
    for end in ["so", "rmeta"] {
        let mut files = Vec::new();
        for library in fs::read_dir(&libraries).unwrap() {
            let library = library.unwrap().path();
            for folder in [library.join("deps"), library] {
                let entries = fs::read_dir(folder)
                    .unwrap()
                    .map(|entry| entry.unwrap().path());
                files.extend(entries.filter(|path| path.extension().is_some_and(|own| own == end)));
            }
        }
        assert!(!files.is_empty(), "no .{end} is there");
        files.iter().for_each(|file| damage_one_bit(file));
        let damaged = fs::read(&files[0]).unwrap();
        let (mut session, _) = place.start().unwrap();
        assert_eq!(session.result_of(&cell), "42", "after damage to .{end}");
        assert_ne!(fs::read(&files[0]).unwrap(), damaged, "{end}");
    }
}

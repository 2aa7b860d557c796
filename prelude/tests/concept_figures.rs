//! The figures of the notebooks: the committed files are what the program draws of the tiny model as it is.

#[path = "../examples/concept_figures/figures/mod.rs"]
mod figures;

use std::path::{Path, PathBuf};

use glassbox_prelude::Result;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../notebooks/figures")
}

#[test]
fn the_figures_are_what_the_program_draws_and_there_is_no_other() -> Result<()> {
    let drawn = figures::all(&figures::measure::tiny()?);
    for (name, svg) in &drawn {
        let path = folder().join(format!("{name}.svg"));
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == *svg,
            "{} is not what is drawn now: `cargo run --release -p glassbox-prelude --example concept_figures` writes it",
            path.display()
        );
    }
    let entries = std::fs::read_dir(folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let mut there: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    there.sort();
    let mut wanted: Vec<String> = drawn
        .iter()
        .map(|(name, _)| format!("{name}.svg"))
        .collect();
    wanted.sort();
    assert_eq!(there, wanted);
    Ok(())
}

/// A figure loads nothing, fits its frame, follows light and dark, and can be read.
#[test]
fn a_figure_brings_all_that_it_needs_and_its_words_can_be_read() -> Result<()> {
    for (name, svg) in figures::all(&figures::measure::tiny()?) {
        assert!(svg.len() <= 24_000, "{name}: {} bytes", svg.len());
        for outside in [
            "href",
            "url(",
            "@import",
            "<script",
            "<image",
            "<foreignObject",
        ] {
            assert!(!svg.contains(outside), "{name} says {outside}");
        }
        assert!(
            svg.contains("prefers-color-scheme:dark") && svg.contains("<title>"),
            "{name}"
        );
        for size in svg.split("font-size:").skip(1) {
            let pixels: f64 = size
                .split("px")
                .next()
                .unwrap_or_default()
                .parse()
                .unwrap_or(0.0);
            assert!(pixels >= 11.0, "{name}: a text of {pixels} pixels");
        }
        // Every text begins and ends within the frame, with letters as wide as the widest common font's.
        for text in svg.split("<text ").skip(1) {
            let of = |name: &str| {
                let behind = text.split(&format!("{name}=\"")).nth(1);
                behind
                    .and_then(|rest| rest.split('"').next())
                    .unwrap_or_default()
            };
            let words = text
                .split('>')
                .nth(1)
                .and_then(|rest| rest.split("</text").next())
                .unwrap_or_default();
            let words = words.split('<').next().unwrap_or_default();
            let letters = words
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .chars()
                .count();
            let each = match of("class") {
                "name" => 8.4,
                "note" => 6.4, // a line of small letters
                _ => 7.25,
            };
            let long = letters as f64 * each;
            let x: f64 = of("x").parse().unwrap_or(-1.0);
            let left = match of("text-anchor") {
                "middle" => x - long / 2.0,
                "end" => x - long,
                _ => x,
            };
            let right = left + long;
            assert!(
                left >= 0.0 && right <= 640.0,
                "{name}: “{words}” from {left} to {right}"
            );
        }
    }
    Ok(())
}

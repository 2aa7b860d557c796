//! Decoding against Pillow: `tests/pictures/NAME.expected.png` is what Pillow 13 makes of `tests/pictures/NAME.*`
//! (`convert("RGB")`, for `turned.jpg` after `exif_transpose`); so are those of `formats/`, which `make.py` there writes.
//! A file that is cut off is read as Pillow reads it, or refused.

use std::path::{Path, PathBuf};

use glassbox_prelude::vision::{DecodeOptions, ExifPolicy, Image};

fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/pictures")
        .join(name)
}

fn compare(
    name: &str,
    expected: &str,
    options: DecodeOptions,
    most: u8,
) -> Result<(), glassbox_prelude::Error> {
    let found = Image::load_with(picture(name), options)?;
    let wanted = Image::load(picture(expected))?;
    assert_eq!(
        (found.width(), found.height()),
        (wanted.width(), wanted.height()),
        "{name}"
    );
    let worst = found
        .rgb()
        .iter()
        .zip(wanted.rgb().iter())
        .map(|(one, other)| one.abs_diff(*other))
        .max();
    assert!(
        worst.is_some_and(|worst| worst <= most),
        "{name} differs by {worst:?} levels"
    );
    Ok(())
}

#[test]
fn lossless_formats_equal_pillow() -> Result<(), glassbox_prelude::Error> {
    let ignore = DecodeOptions::default();
    compare("one_bit.png", "one_bit.expected.png", ignore, 0)?;
    compare(
        "palette_transparent.png",
        "palette_transparent.expected.png",
        ignore,
        0,
    )?;
    compare("palette.gif", "palette.expected.png", ignore, 0)
}

#[test]
fn a_cmyk_jpeg_has_the_right_colours() -> Result<(), glassbox_prelude::Error> {
    compare("cmyk.jpg", "cmyk.expected.png", DecodeOptions::default(), 6)
}

#[test]
fn the_cameras_note_turns_the_picture_only_when_asked() -> Result<(), glassbox_prelude::Error> {
    let lying = Image::load(picture("turned.jpg"))?;
    assert_eq!((lying.width(), lying.height()), (24, 16));
    compare(
        "turned.jpg",
        "turned.expected.png",
        DecodeOptions {
            exif: ExifPolicy::Apply,
        },
        6,
    )
}

/// Every file of `formats/` that is no expectation.
fn formats() -> Vec<String> {
    let folder = std::fs::read_dir(picture("formats")).expect("the folder is there");
    let names = folder.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names
        .map(|name| format!("formats/{}", name.to_string_lossy()))
        .filter(|name| !name.ends_with(".expected.png"))
        .collect();
    names.sort();
    assert!(names.len() > 50, "{names:?}");
    names
}

#[test]
fn every_kind_of_picture_has_pillows_levels() {
    let mut wrong = Vec::new();
    for name in formats() {
        // Decoders of what is lossy may differ in the last levels, where colour is stored at half size in more.
        let most = match name.as_str() {
            half if half.contains("42") => 16,
            lossy if lossy.ends_with(".jpg") => 6,
            lossy if lossy.contains("lossy") => 3,
            _ => 0,
        };
        let outcome = std::panic::catch_unwind(|| {
            compare(
                &name,
                &format!("{name}.expected.png"),
                DecodeOptions::default(),
                most,
            )
        });
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => wrong.push(format!("{name}: {error}")),
            Err(said) => wrong.push(said.downcast_ref::<String>().cloned().unwrap_or_default()),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_picture_that_is_cut_off_is_read_whole_or_refused() {
    let mut wrong = Vec::new();
    for name in formats() {
        let whole = std::fs::read(picture(&name)).expect("the file is there");
        let options = DecodeOptions::default();
        let wanted = Image::from_bytes(&whole, options).expect("a picture");
        for length in 0..whole.len() {
            if let Ok(found) = Image::from_bytes(&whole[..length], options)
                && found != wanted
            {
                wrong.push(format!("{name} cut to {length} of {} bytes", whole.len()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[cfg(unix)]
#[test]
fn a_pipe_in_a_pictures_place_is_refused_at_once() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("1.jpg");
    let made = std::process::Command::new("mkfifo").arg(&path).status()?;
    assert!(made.success());
    let message = Image::load(&path).unwrap_err().to_string();
    assert!(
        message.contains("1.jpg") && message.contains("named pipe"),
        "{message}"
    );
    Ok(())
}

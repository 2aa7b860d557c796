//! Decoding against Pillow: `tests/pictures/NAME.expected.png` is what Pillow 13 makes of `tests/pictures/NAME.*`
//! (`convert("RGB")`, for `turned.jpg` after `exif_transpose`).

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

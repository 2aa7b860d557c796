//! Parquet files as pyarrow writes them; `scripts/fixtures/parquet.py` makes them.

use super::*;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/parquet/{name}.parquet"))
}

fn open(name: &str) -> Result<Captions> {
    Captions::parquet_files(&[fixture(name)], None)
}

/// Each picture has its own size and red.
fn is_picture(dataset: &Captions, position: usize, row: u32) -> Result<()> {
    let sample = dataset.sample(position)?;
    assert_eq!(
        (sample.image.width(), sample.image.height()),
        (4 + row, 3),
        "{}",
        sample.file_name
    );
    assert_eq!(u32::from(sample.image.rgb().get_pixel(0, 0).0[0]), row * 30);
    Ok(())
}

#[test]
fn pictures_and_captions_come_however_they_are_packed() -> Outcome {
    for name in ["snappy", "plain", "groups"] {
        let dataset = open(name)?;
        assert_eq!(dataset.len(), 7, "{name}: {dataset:?}");
        // In no order, so that pages are gone back to.
        for row in [6, 0, 3, 5, 2, 4, 1] {
            is_picture(&dataset, row, row as u32)?;
            assert_eq!(
                dataset.captions(row)?,
                [format!("caption {row}, é")],
                "{name}"
            );
        }
    }
    Ok(())
}

#[test]
fn lists_of_captions_may_be_empty_or_not_there() -> Outcome {
    for name in ["lists", "pages_v2"] {
        let dataset = open(name)?;
        let rows: Vec<u32> = (0..dataset.len())
            .map(|position| Ok(dataset.sample(position)?.image.width() - 4))
            .collect::<Result<_>>()?;
        assert_eq!(rows, [1, 2, 4, 5], "{name}: {dataset:?}");
        assert_eq!(dataset.captions(2)?, ["a 4", "b 4"]);
        assert_eq!(dataset.report().without_caption, 3);
    }
    Ok(())
}

#[test]
fn a_row_without_a_picture_is_an_unreadable_sample() -> Outcome {
    let dataset = open("missing")?;
    let error = dataset.sample(1).map(|_| ()).expect_err("it has none");
    assert!(
        matches!(error, Error::Io { .. }) && error.to_string().contains("row 1"),
        "{error}"
    );
    is_picture(&dataset, 2, 2)?;
    Ok(())
}

#[test]
fn parts_of_a_dataset_are_found_and_joined() -> Outcome {
    let root = tempfile::tempdir()?;
    std::fs::create_dir(root.path().join("data"))?;
    for (from, to) in [
        ("snappy", "train-00000-of-00002"),
        ("groups", "train-00001-of-00002"),
        ("plain", "test-00000-of-00001"),
    ] {
        std::fs::copy(
            fixture(from),
            root.path().join(format!("data/{to}.parquet")),
        )?;
    }
    let train = Captions::parquet(root.path(), Split::Train)?;
    assert_eq!(train.len(), 14);
    is_picture(&train, 13, 6)?;
    is_picture(&train, 6, 6)?;
    assert!(train.sample(13)?.file_name.contains("train-00001"));
    assert_eq!(Captions::parquet(root.path(), Split::Val)?.len(), 7);
    let empty = tempfile::tempdir()?;
    let message = Captions::parquet(empty.path(), Split::Train)
        .map(|_| ())
        .expect_err("empty")
        .to_string();
    assert!(message.contains("train-*.parquet"), "{message}");
    Ok(())
}

#[test]
fn what_is_not_read_is_refused_by_name() -> Outcome {
    let said = |result: Result<Captions>| match result {
        Ok(dataset) => format!("opened {dataset:?}"),
        Err(error) => error.to_string(),
    };
    assert!(
        said(open("zstd")).contains("zstd")
            && said(open("zstd")).contains("compression=\"snappy\"")
    );
    assert!(
        said(open("delta")).contains("DELTA_BYTE_ARRAY"),
        "{}",
        said(open("delta"))
    );
    assert!(said(open("no_pictures")).contains("no column of pictures"));
    let title = Captions::parquet_files(&[fixture("snappy")], Some("title"));
    assert!(said(title).contains("it has id, image, text"));
    let root = tempfile::tempdir()?;
    let bytes = std::fs::read(fixture("snappy"))?;
    for (name, bytes) in [
        ("cut", &bytes[..bytes.len() - 20]),
        ("empty", &[][..]),
        ("text", b"a text that is long enough"),
    ] {
        let path = root.path().join(name);
        std::fs::write(&path, bytes)?;
        assert!(
            said(Captions::parquet_files(&[&path], None)).contains("cut off"),
            "{name}"
        );
    }
    assert!(said(Captions::parquet_files(&[root.path()], None)).contains("it is a folder"));
    Ok(())
}

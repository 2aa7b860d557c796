//! A captions file of the size of COCO's train2017 opens in seconds and in a fraction of a gigabyte: the example that measures it, run.

#[path = "../examples/coco_size.rs"]
#[allow(dead_code)]
mod coco_size;

#[test]
fn a_file_of_cocos_size_opens_in_seconds_and_well_under_a_gigabyte()
-> Result<(), Box<dyn std::error::Error>> {
    let root = tempfile::tempdir()?;
    let found = coco_size::measure(root.path())?;
    assert!(found.bytes > 90_000_000, "{} bytes", found.bytes);
    // Two seconds on a quiet machine; this says that it is no matter of minutes.
    assert!(found.seconds < 60.0, "{} s", found.seconds);
    // What writing the file took is in the peak too: 100 MB of text.
    let [_, after, peak] = found.memory;
    assert!(after < 300.0 && peak < 500.0, "{:?} MB", found.memory);
    Ok(())
}

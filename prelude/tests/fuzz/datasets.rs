//! Damaged files of datasets other than COCO's: each gives what is whole of it, or an error.

use crate::edits::{apply, edited_text, edits, text_edits};
use crate::{fuzz, read};
use glassbox_prelude::data::{Captions, Conversations, TextLines};
use glassbox_prelude::evaluate::CaptionTokenizer;
use glassbox_prelude::serde_json::json;
use proptest::prelude::*;
use std::path::Path;

/// Two pictures, and what else a target writes.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("val2014")).expect("a folder");
    for name in ["1.png", "val2014/2.png"] {
        std::fs::write(folder.path().join(name), read("images/one_1x1.png")).expect("a file");
    }
    folder
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).expect("a file");
}

/// What was opened holds what it says, and every picture lies inside the folder.
fn look_at(captions: &Captions, folder: &Path) {
    assert!(!captions.is_empty());
    let report = captions.report();
    assert_eq!(report.pictures, captions.len());
    assert_eq!(report.captions, captions.all_captions().len());
    for position in 0..captions.len() {
        let path = captions.picture_path(position).expect("it is there");
        let inside = path.canonicalize().expect("it is a file");
        assert!(
            inside.starts_with(folder.canonicalize().expect("a folder")),
            "{}",
            path.display()
        );
        let own = captions.captions(position).expect("it is there");
        assert!(!own.is_empty() && own.iter().all(|caption| !caption.trim().is_empty()));
    }
}

#[test]
fn damaged_split_files_load_or_are_refused() {
    let folder = folder();
    let sentences =
        json!([{"raw": "a red dot", "sentid": 1, "tokens": ["a"]}, {"raw": " a dot.\n"}]);
    let original = json!({"dataset": "coco", "images": [
        {"filepath": ".", "filename": "1.png", "cocoid": 1, "split": "train", "sentences": sentences},
        {"filepath": "val2014", "filename": "2.png", "cocoid": 2, "split": "restval", "sentences": sentences},
        {"filepath": "val2014", "filename": "3.png", "cocoid": 3, "split": "train", "sentences": sentences},
    ]});
    fuzz(&text_edits(), |edits| {
        write(
            folder.path(),
            "dataset_coco.json",
            &edited_text(&original, &edits),
        );
        let opened = Captions::karpathy(
            folder.path().join("dataset_coco.json"),
            folder.path(),
            "train+restval",
        );
        if let Ok(captions) = opened {
            look_at(&captions, folder.path());
        }
    });
}

#[test]
fn damaged_metadata_load_or_are_refused() {
    let folder = folder();
    let lines = "{\"file_name\": \"1.png\", \"text\": \"a \\\"red\\\" dot\"}\n{\"file_name\": \"val2014/2.png\", \"text\": [\"a\", \"b\"]}\n";
    let table = "file_name,text\n1.png,\"a \"\"red\"\" dot,\nand more\"\nval2014/2.png,é\n";
    fuzz(&(any::<bool>(), edits()), |(csv, edits)| {
        let mut bytes = if csv { table } else { lines }.as_bytes().to_vec();
        apply(&mut bytes, &edits);
        let (name, other) = if csv {
            ("metadata.csv", "metadata.jsonl")
        } else {
            ("metadata.jsonl", "metadata.csv")
        };
        _ = std::fs::remove_file(folder.path().join(other));
        write(folder.path(), name, &bytes);
        if let Ok(captions) = Captions::image_folder_at(folder.path(), None) {
            look_at(&captions, folder.path());
        }
    });
}

#[test]
fn damaged_texts_beside_pictures_load_or_are_refused() {
    let folder = folder();
    let lines = prop_oneof![
        Just(TextLines::First),
        Just(TextLines::Each),
        Just(TextLines::All)
    ];
    fuzz(&(lines, edits()), |(lines, edits)| {
        let mut bytes = b"\xEF\xBB\xBFa red dot \r\n de.utf8=ein Punkt\n".to_vec();
        apply(&mut bytes, &edits);
        write(folder.path(), "1.txt", &bytes);
        if let Ok(captions) = Captions::text_files_with(folder.path(), lines) {
            look_at(&captions, folder.path());
        }
    });
}

#[test]
fn damaged_conversations_load_or_are_refused() {
    let folder = folder();
    let original = json!([
        {"id": "a", "image": "1.png", "conversations": [
            {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dot."}]},
        {"id": 2, "image": ["1.png", "val2014/2.png"], "conversations": [
            {"from": "human", "value": "<image> or <image>?"}, {"from": "gpt", "value": "é"},
            {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
    ]);
    fuzz(&text_edits(), |edits| {
        write(folder.path(), "llava.json", &edited_text(&original, &edits));
        let Ok(set) = Conversations::open(folder.path().join("llava.json"), folder.path()) else {
            return;
        };
        for position in 0..set.len() {
            let conversation = set.conversation(position).expect("it is there");
            assert!(conversation.turns.len() >= 2 && conversation.turns.len() % 2 == 0);
            for name in &conversation.pictures {
                let path = folder
                    .path()
                    .join(name)
                    .canonicalize()
                    .expect("it is a file");
                assert!(path.starts_with(folder.path().canonicalize().expect("a folder")));
            }
        }
    });
}

#[test]
fn any_text_has_tokens() {
    let text = prop_oneof![
        ".{0,60}",
        "[a-c'.,/#@<>&!\\-0-9 ]{0,40}",
        "(don't|U\\.S\\.|<b x=|\\(555\\) 123-4567|1 1/2|www\\.a|&amp;|:-\\)|O'B|no\\.|'60s|a@b|\\$|[ .,]){0,12}"
    ];
    fuzz(&text, |text| {
        let tokens = CaptionTokenizer::tokenize(&text);
        assert!(
            !tokens.contains("  ") && tokens.trim() == tokens,
            "{tokens:?}"
        );
        assert_eq!(tokens, tokens.to_lowercase());
        let all = CaptionTokenizer::all(&text);
        assert!(all.iter().all(|token| !token.is_empty()), "{all:?}");
    });
}

#[test]
fn damaged_parquet_files_load_or_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    let originals: Vec<Vec<u8>> = ["snappy", "plain", "groups", "pages_v2", "lists", "missing"]
        .iter()
        .map(|name| std::fs::read(fixtures.join(format!("{name}.parquet"))).expect("a fixture"))
        .collect();
    fuzz(&(0..originals.len(), edits()), |(which, edits)| {
        let mut bytes = originals[which].clone();
        apply(&mut bytes, &edits);
        write(folder.path(), "damaged.parquet", &bytes);
        let Ok(captions) = Captions::parquet_files(&[folder.path().join("damaged.parquet")], None)
        else {
            return;
        };
        assert_eq!(captions.report().captions, captions.all_captions().len());
        for sample in captions.samples(0, 0).take(20) {
            _ = sample;
        }
    });
}

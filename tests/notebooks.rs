//! The notebooks behind the tour as a reader runs them, with the hidden answers to their exercises: executed from top to bottom by
//! the built binary, and what they prove and show is asked for.
//!
//! The notebooks check their own proofs and fail where one does not hold; here the printed figures are read as well, so
//! that a proof that was taken out is missed.

#![allow(clippy::print_stdout)] // figures for whoever reads the log

mod notebook_support;

use std::path::Path;

use notebook_support::{Executed, execute, folder, said, text_of};

/// Largest difference that a sum taken in another order may make.
const SAME: f64 = 1e-4;

/// What the notebook made by hand equals the prelude's: the line about `stage` ends with the largest difference.
fn assert_same(run: &Executed, stage: &str) {
    let line = run.line(&format!("{stage}: shape"));
    let difference: f64 = line
        .rsplit(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap();
    println!("{line}");
    assert!(difference < SAME, "{line}");
}

#[test]
fn embedding_by_hand_equals_the_one_liners_and_shows_the_double_rescale() {
    let run = Executed::with_answers("01_embedding.ipynb", &[]);
    for stage in [
        "pixel values",
        "as a product",
        "as a convolution",
        "embeddings",
        "after 4 layers",
        "after the final LayerNorm",
        "image tokens",
    ] {
        assert_same(&run, stage);
    }
    assert!(run.line("⚠ pixel_values").contains("scaled twice"));
    assert!(run.shows(&["CLS, through all layers"]));
    assert!(run.shows(&["scaled twice", "data:image/png;base64,"]));
    assert!(run.shows(&["image tokens", "words", "svg"]), "no PCA plot");
    assert!(
        run.shows(&["11,802,624"]),
        "the blog's projector is not counted"
    );
    // An exercise: order reaches CLS only through the position vectors.
    assert!(run.numbers("before: CLS moves by")[0] > 0.01);
    assert!(run.numbers("after: CLS moves by")[0] < SAME);
    run.assert_self_contained();
}

#[test]
fn concatenation_by_hand_equals_the_one_liner_and_finds_repeated_bos() {
    let run = Executed::with_answers("02_concatenation.ipynb", &["-p", "scene=5"]);
    for stage in [
        "word vectors",
        "logits",
        "the sequence",
        "after the first layer",
        "its attention",
        "sequence 0, alone and in the batch",
        "sequence 1, alone and in the batch",
    ] {
        assert_same(&run, stage);
    }
    assert_eq!(
        run.line("<s> stands"),
        "<s> stands 4 times in the blog's sequence, 1 time in the repaired one"
    );
    assert!(run.shows(&["start_vec", "none: it never learns"]));
    assert!(run.shows(&["attention in layer 0"]));
    assert!(run.shows(&["after the chat template", "probability"]));
    assert!(
        run.printed()
            .contains("<|user|>\nWhat is in the picture?<|end|>")
    );
    run.assert_self_contained();
}

#[test]
fn the_mean_over_prefixes_is_one_pass_and_less_noisy() {
    let run = Executed::with_answers(
        "03_random_prefix_loss.ipynb",
        &["-p", "steps=60", "-p", "captions=8"],
    );
    for proof in [
        "difference of the means:",
        "largest difference at any place:",
    ] {
        println!("{}", run.line(proof));
        assert!(run.numbers(proof)[0] < SAME * 10.0);
    }
    let both = run.numbers("mean of ");
    assert!(
        both[0] >= 5.0 && (both[1] - both[2]).abs() < SAME,
        "{both:?}"
    );
    assert!(run.line("by hand").contains("in one line"));
    println!("{}", run.line("gradient variance:"));
    assert!(run.numbers("gradient variance: one place has")[0] > 1.5);
    assert!(
        run.shows(&["gradient noise", "svg"])
            || run.shows(&["data:image/svg+xml", "gradient noise"])
    );
    assert!(
        run.shows(&["gradient ledger", "parameters will not learn"]),
        "the frozen LoRA is not red"
    );
    assert!(run.shows(&["every trainable parameter gets a gradient"]));
    assert!(run.shows(&["Targets::Middle (the blog)", "never"]));
    assert!(run.shows(&["first token", "end of sequence"]));
    assert!(run.shows(&["a black picture"]), "no loss map");
    run.assert_self_contained();
}

#[test]
fn cached_generation_equals_uncached_and_stops() {
    let run = Executed::with_answers("04_generation.ipynb", &["-p", "steps=150"]);
    let gap = run.numbers("largest difference of the logits with and without cache:")[0];
    println!("{gap:e}");
    assert!(gap < 1e-3);
    assert!(run.line("cached = uncached:").contains("ids"));
    assert_eq!(
        run.line("cached = uncached in"),
        "cached = uncached in 40 of 40 generations"
    );
    println!("{}", run.line("96 tokens:"));
    assert!(run.line("listening:").ends_with("<|end|>"));
    assert!(
        run.printed()
            .contains("200 draws by hand, each the same as by Sampling::pick")
    );
    for shown in [
        "time for a text",
        "probability of &lt;|end|&gt;",
        "different captions of 12",
        "image encoder, rollout from CLS",
        "as it was asked for",
    ] {
        assert!(run.shows(&[shown]), "{shown}");
    }
    run.assert_self_contained();
}

#[test]
fn every_combination_of_parts_is_measured_beside_its_controls() {
    let dinov2 = published_encoder();
    let encoder = format!("encoder_folder={}", dinov2.path().display());
    let sizes = ["-p", "steps=60", "-p", "text_steps=150", "-p", &encoder];
    let run = Executed::with_answers("08_bricks.ipynb", &sizes);
    let table = |page: &str, rows: usize| page.contains(&format!("{rows} models; green"));
    let pages = run.shown("text/html");
    let full: Vec<&String> = pages.iter().filter(|page| table(page, 18)).collect();
    // One display that was filled in place.
    assert_eq!(
        full.len(),
        1,
        "the table of 18 models is shown {} times",
        full.len()
    );
    for part in [
        "ViT, trained",
        "ViT, never trained",
        "Colours",
        "mlp2x",
        "resampler",
        "shuffle",
        "Phi-3",
        "Llama",
    ] {
        assert!(full[0].matches(part).count() >= 6, "{part}");
    }
    assert!(full[0].contains("without looking"));
    assert!(
        run.shows(&["4 models; green", "Windows"]),
        "no projector of one's own"
    );
    println!("{}", run.line("the trained ViT:"));
    let figures = run.numbers("the trained ViT:");
    assert!(
        figures[0] > 80.0 && figures[0] > 3.0 * figures[1].max(figures[2]),
        "{figures:?}"
    );

    let losses = run.numbers("loss by hand");
    assert!(
        (losses[0] - losses[1]).abs() < SAME && losses[0] > 0.0,
        "{losses:?}"
    );
    println!("{}", run.line("answers right:"));
    let answers = run.numbers("answers right:");
    assert!(
        answers[0] > 45.0 && answers[0] > answers[1] + 10.0,
        "{answers:?}"
    );
    assert!(run.shows(&["LastInput", "0.0%"]));
    for line in [
        "saved, read again",
        "trained without pictures",
        "its projector is untrained",
        "the projector Mlp2x leads from 96 to 128",
    ] {
        println!("{}", run.line(line));
    }
    assert!(run.printed().contains("model_type is elephant"));
    assert!(
        run.shows(&["image_encoder (dinov2)"]),
        "the folder was not opened"
    );
    // An exercise: an encoder with weights, written in a cell and trained, and every one of its weights with a gradient.
    assert!(run.shows(&["image_encoder (Spectrum)"]));
    assert!(run.shows(&["in the middle", "a green circle"]));
    assert!(run.shows(&[
        "image_encoder.bands.weight",
        "every trainable parameter gets a gradient"
    ]));
    run.assert_self_contained();
}

/// A small DINOv2 as its publishers lay it out.
fn published_encoder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/towers/dinov2");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture.join(file), folder.path().join(file)).unwrap();
    }
    let processor = serde_json::json!({
        "image_processor_type": "BitImageProcessor", "resample": 3,
        "size": {"shortest_edge": 20}, "crop_size": {"height": 20, "width": 20},
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    });
    std::fs::write(
        folder.path().join("preprocessor_config.json"),
        processor.to_string(),
    )
    .unwrap();
    folder
}

/// No cell is longer than a reader takes in at once.
#[test]
fn cells_are_short() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "ipynb")
            || path.to_string_lossy().contains(".executed.")
        {
            continue;
        }
        let notebook: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for cell in notebook["cells"].as_array().unwrap() {
            let lines = text_of(&cell["source"]).lines().count();
            let is_code = cell["cell_type"] == "code";
            assert!(
                !is_code || lines <= 25,
                "{}, cell {}: {lines} lines",
                path.display(),
                cell["id"]
            );
        }
    }
}

/// The code of the cell tagged `parameters` is followed by one that chooses the model, the same in all notebooks.
fn choosing_lines(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let notebook: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cells = notebook["cells"].as_array().unwrap();
    let at = cells
        .iter()
        .position(|cell| cell["metadata"]["tags"][0] == "parameters")
        .unwrap();
    assert!(text_of(&cells[at]["source"]).contains("let model = \"tiny\".to_string();"));
    let source = text_of(&cells[at + 1]["source"]);
    let lines = source.lines().skip(2).take_while(|line| *line != "};");
    lines.map(str::to_owned).collect()
}

#[test]
fn the_real_pair_without_weights_and_an_unknown_model_say_what_to_do() {
    let first = choosing_lines("01_embedding.ipynb");
    assert!(first.iter().any(|line| line.contains("Preset::vit_phi3()")));
    for name in [
        "02_concatenation.ipynb",
        "03_random_prefix_loss.ipynb",
        "04_generation.ipynb",
    ] {
        assert_eq!(choosing_lines(name), first, "{name}");
    }
    let (out, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let home = empty.path().to_str().unwrap();
    let offline = [("HF_HUB_OFFLINE", "1"), ("HF_HOME", home)];
    for (model, words) in [
        ("giant", ["choose \"tiny\" or \"vit_phi3\"", "giant"]),
        (
            "vit_phi3",
            ["google/vit-base-patch16-224", "HF_HUB_OFFLINE"],
        ),
    ] {
        let file = folder().join("01_embedding.ipynb");
        let output = execute(
            &file,
            out.path(),
            &["-p", &format!("model={model}")],
            &offline,
        );
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

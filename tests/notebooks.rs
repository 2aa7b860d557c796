//! Notebooks 01 to 04 as a reader runs them, with the hidden answers to their exercises: executed from top to bottom by
//! the built binary, and what they prove and show is asked for.
//!
//! The notebooks check their own proofs and fail where one does not hold; here the printed figures are read as well, so
//! that a proof that was taken out is missed.

#![allow(clippy::print_stdout)] // figures for whoever reads the log

mod notebook_support;

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
    // An encoder of the notebook's own, trained, and every one of its weights with a gradient.
    assert!(run.shows(&["image_encoder (Spectrum)"]));
    assert!(run.shows(&["in the middle", "a green circle"]));
    assert!(run.shows(&[
        "image_encoder.bands.weight",
        "every trainable parameter gets a gradient"
    ]));
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

//! The notebook about few-shot prompts as a reader runs it, with the hidden answers to its exercises: two examples are enough for the
//! model with Flamingo's rule, shuffled labels are chance, and who got no training to speak of binds nothing. The sizes are smaller than
//! the default, too small for plain attention to learn it with every seed.

#![allow(clippy::print_stdout)] // figures for whoever reads the log

mod notebook_support;

use notebook_support::Executed;

#[test]
fn a_made_up_word_is_bound_from_two_examples_and_not_from_shuffled_ones() {
    let sizes = [
        ["-p", "steps=300"],
        ["-p", "hint_steps=25"],
        ["-p", "asked=80"],
    ];
    let run = Executed::with_answers("09_few_shot.ipynb", sizes.as_flattened());
    // The prompt without and with the hint, and the masks of both rules: 11 tokens, five of them pictures.
    let strips = run.shown("text/plain");
    let shows_strip = |words: &str| strips.iter().any(|strip| strip.contains(words));
    assert!(
        shows_strip("11 tokens: text 1 | image 1") && shows_strip("16 tokens: text 1 | image 1")
    );
    // Plain: 1 + 2 + … + 11. Flamingo's: in row r the pictures before the last are hidden, 2 × (1 + 2 + 3 + 4) places.
    assert_eq!(run.numbers("plain attention:")[..2], [66.0, 121.0]);
    assert_eq!(run.numbers("Flamingo's rule:")[..2], [46.0, 121.0]);
    for shown in [
        ["four examples and a question", "?"],
        ["shuffled", "kept-back deals"],
    ] {
        assert!(run.shows(&shown), "{shown:?}");
    }
    // right, asked, shuffled, black, kept back
    let found = |model: &str, examples: usize| {
        let start = format!("{model}, {examples} examples:");
        println!("{}", run.line(&start));
        let figures = run.numbers(&start);
        assert_eq!((figures.len(), figures[1]), (5, 80.0), "{figures:?}");
        figures
    };
    for model in ["plain", "Flamingo's", "no hint"] {
        let [none, one, two, four] = [0, 1, 2, 4].map(|examples| found(model, examples));
        // One of eight words, and one example is right where the question shows its shape.
        assert!(none[0] <= 28.0, "{none:?}");
        assert!(one[0] <= 58.0, "{one:?}");
        for figures in [&two, &four] {
            assert!(figures[2] <= 56.0, "shuffled labels: {figures:?}");
        }
        match model {
            "Flamingo's" => {
                for figures in [&two, &four] {
                    assert!(figures[0] >= 68.0 && figures[2] >= 24.0, "{figures:?}");
                }
                assert!(run.line("Flamingo's, 2 examples:").ends_with(", binds"));
            }
            "no hint" => {
                assert!(two[0] <= 56.0, "{two:?}");
                assert!(run.line("no hint, 2 examples:").ends_with("does not bind"));
            }
            _ => {}
        }
    }
    // The answers to the exercises.
    let three = run.numbers("3 words, Flamingo's:");
    println!("{three:?}");
    assert_eq!(three[1..], [80.0, 26.0]);
    assert!(three[0] >= 40.0, "{three:?}");
    for layer in 0..4 {
        let looks = run.numbers(&format!("layer {layer}: to the right word"));
        assert!(
            looks.iter().all(|share| (0.0..=1.001).contains(share)),
            "{looks:?}"
        );
    }
    assert_eq!(run.numbers("names in place of pictures:")[1], 80.0);
    run.assert_self_contained();
}

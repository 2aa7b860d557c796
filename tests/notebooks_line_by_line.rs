//! The notebook that writes the whole model out in plain tensors, with the hidden answers to its exercises: each step is the prelude's, the
//! losses of its own training are the `Trainer`'s, and eight captions come back. Fewer steps of learning by heart than the default.

#![allow(clippy::print_stdout)] // figures for whoever reads the log

mod notebook_support;

use notebook_support::Executed;

#[test]
fn what_is_written_out_is_the_preludes_and_learns_eight_captions_by_heart() {
    let run = Executed::with_answers("14_line_by_line.ipynb", &["-p", "overfit_steps=80"]);
    // The notebook itself fails above 1e-5; here, that every comparison was made.
    for compared in [
        "patches with places [1, 26, 96]: differs by",
        "hidden_states[-1] [1, 26, 96]: differs by",
        "image tokens [1, 26, 128]: differs by",
        "the sequence [1, 42, 128]: differs by",
        "turned queries [1, 42, 128]: differs by",
        "scores [5, 576]: differs by",
        "loss at place 2 of eight captions []: differs by",
        "loss of all tokens, trained []: differs by",
    ] {
        assert!(run.numbers(compared)[0] < 1e-5, "{}", run.line(compared));
    }
    assert!(run.numbers("largest difference of a slope:")[0] < 1e-5);
    println!("{}", run.line("20 steps: the losses differ by"));
    println!("{}", run.line("weights:"));
    assert!(run.numbers("20 steps: the losses differ by at most")[0] < 1e-5);
    assert!(run.numbers("with another seed: the losses differ by up to")[0] > 0.1);
    // so many within 1e-6, of so many
    let weights = run.numbers("weights:");
    assert!(weights[0] > 0.97 * weights[1], "{weights:?}");
    let heart = run.line("exactly right:");
    println!("{heart}");
    // so many of 8 before, after, and with black pictures
    let heart = run.numbers("exactly right:");
    assert!(
        heart[0] <= 1.0 && heart[2] >= 6.0 && heart[4] <= 1.0,
        "{heart:?}"
    );
    println!("{}", run.line("of 8 unseen pictures"));
    assert!(
        run.printed()
            .contains("the prelude writes the same 8 captions")
    );
    // The answers to the exercises.
    let first = run.numbers("the first step, in learning rates:");
    assert!(
        (first[0] - 1.0).abs() < 0.02 && (first[1] - 3.16).abs() < 0.1,
        "{first:?}"
    );
    let moves = run.numbers("tokens before the last move by");
    assert!(moves[0] == 0.0 && moves[1] > 1e-3, "{moves:?}");
    assert!(
        run.line("with the schedule: 20 steps")
            .contains("differ by at most")
    );
    println!("{}", run.line("the projector alone: loss"));
    run.assert_self_contained();
}

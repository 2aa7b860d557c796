//! The notebook about changing what a model thinks, with the hidden answers to its exercises: what is patched comes back, what is added up
//! comes out, and what steers does so beside a control that does not.

#![allow(clippy::print_stdout)] // figures for whoever reads the log

mod notebook_support;

use notebook_support::Executed;

#[test]
fn what_is_patched_comes_back_sums_come_out_and_a_direction_steers_beside_its_control() {
    let run = Executed::with_answers("13_inside.ipynb", &["-p", "steps=200"]);
    println!("{}", run.line("of the first picture it says"));
    assert!(run.line("of the first picture it says").contains("red"));
    // right, wrong, wrong but patched at the entrance
    let losses = run.numbers("loss of “a red ");
    println!("{losses:?}");
    assert!(losses[1] > losses[0] + 0.5, "{losses:?}");
    assert!((losses[2] - losses[0]).abs() < 1e-3, "{losses:?}");
    let shares = run.numbers("of the answer comes back from the picture's place:");
    assert!(shares[0] > 0.99 && shares[1].abs() < 0.01, "{shares:?}");
    println!("{}", run.line("the head that is missed most"));
    let sums = run.numbers("the difference of the logits is");
    assert!(
        (sums[0] - sums[1]).abs() < 1e-3 && sums[0] > 1.0,
        "{sums:?}"
    );
    let worth = run.numbers("the picture is worth");
    println!("{}", run.line("the picture is worth"));
    assert!((worth[0] - worth[1]).abs() < 0.1 * worth[0], "{worth:?}");
    let steered = run.numbers("strength 1:");
    println!("{}", run.line("strength 1:"));
    // so many of 16 pictures, and with the control
    assert!(steered[0] >= 10.0 && steered[2] <= 3.0, "{steered:?}");
    assert!(run.numbers("strength 0:")[0] <= 1.0);
    for shown in [
        "comes back",
        "this head alone",
        "adds directly to the logit",
        "at every token",
    ] {
        assert!(run.shows(&[shown]), "{shown}");
    }
    // The answers to the exercises.
    assert!(run.line("refused:").contains("llm/layers[1]/mlp"));
    assert!(run.line("refused too:").contains("99"));
    assert!(run.numbers("layer 0: the attention to one token brings back up to")[0] >= 0.0);
    println!("{}", run.line("green pictures, steered by 1"));
    run.assert_self_contained();
}

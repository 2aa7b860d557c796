//! The notebook about sums in pictures as a reader runs it, with the hidden answers to its exercises. The sizes are smaller than the
//! default where that does no harm: enough for sums of pairs that were shown, not for what two solved examples do. With 200 steps such sums
//! were 31% right once products rounded otherwise; with 300 three seeds make 88, 96 and 92%.

#![allow(clippy::print_stdout)] // figures for whoever reads the log

mod notebook_support;

use notebook_support::Executed;

#[test]
fn reading_and_adding_are_scored_apart_beside_who_does_not_look() {
    let sizes = [
        ["-p", "steps=300"],
        ["-p", "read_steps=150"],
        ["-p", "shot_steps=20"],
        ["-p", "asked=16"],
    ];
    let run = Executed::with_answers("10_sums.ipynb", sizes.as_flattened());
    // By text: what was read of is known. The other eight are no more than guessed by the one that never read of them.
    let all = run.numbers("read of all 36:");
    let some = run.numbers("read of 28:");
    println!("{all:?} {some:?}");
    assert!(all[0] >= 24.0 && all[2] >= 6.0, "{all:?}");
    assert!(some[0] >= 24.0 && some[2] < all[2], "{some:?} {all:?}");
    let [digits, chance] = ["digits named right:", "by chance:"].map(|line| run.numbers(line)[0]);
    assert!(digits > 2.0 * chance, "{digits} {chance}");
    for way in ["read:", "sum:", "think:"] {
        let figures = run.numbers(&format!("{way} seen pairs"));
        println!(
            "{way} {figures:?}, unseen {:?}",
            run.numbers(&format!("{way} unseen pairs"))
        );
        // Whether writing the reading down is learnt by then differs from seed to seed.
        assert!(
            way == "think:" || figures[0] > figures[1] + 20.0,
            "{way} {figures:?}"
        );
    }
    let apart = run.numbers("seen pairs:");
    assert_eq!(
        (apart.len(), apart[1], apart[3]),
        (4, 16.0, 16.0),
        "{apart:?}"
    );
    assert!(run.shows(&["had read of all 36 sums", "had read of 28"]));
    // Four prompts to one question, each answered so often.
    for prompt in [
        "two solved examples:",
        "no example:",
        "answers swapped:",
        "examples of the other task:",
    ] {
        assert_eq!(run.numbers(prompt)[1], 16.0, "{prompt}");
    }
    println!("{}", run.line("two solved examples:"));
    // The answers to the exercises.
    assert!(run.line("wrong sums of unseen pairs").contains('{'));
    assert_eq!(run.numbers("with an example in words:")[1], 16.0);
    assert_eq!(run.numbers("with one example:")[1], 16.0);
    run.assert_self_contained();
}

//! The notebook about holes in captions as a reader runs it, with the hidden answers to its exercises: what is filled in lies above those
//! who do not look, and every figure stands beside its controls. The sizes are smaller than the default.

#![allow(clippy::print_stdout)] // figures for whoever reads the log

mod notebook_support;

use notebook_support::Executed;

#[test]
fn holes_are_filled_above_their_controls_and_their_price_and_the_orders_are_measured() {
    let sizes = ["-p", "steps=160", "-p", "order_steps=60"];
    let few = ["-p", "pictures=400", "-p", "asked=40"];
    let run = Executed::with_answers("11_holes.ipynb", &[sizes, few].concat());
    // The sequences of both orders, with the marks as tokens of their own.
    let strips = run.shown("text/plain");
    let shows_strip = |words: &str| strips.iter().any(|strip| strip.contains(words));
    assert!(shows_strip("<PRE> <SUF>") && shows_strip("<PRE> ␣a"));
    for shown in [
        ["no suffix", "another picture", "filled?"],
        ["captions read", "cost in nats", "both objects right"],
        ["image-text", "text-image-text", "prefix-LM"],
    ] {
        assert!(run.shows(&shown), "{shown:?}");
    }
    // right, with no suffix, without looking
    for kind in ["colour", "shape", "first object", "second object"] {
        for order in ["prefix first", "suffix first"] {
            println!("{}", run.line(&format!("{kind}, {order}:")));
        }
    }
    let shape = run.numbers("shape, suffix first:");
    assert!(shape[0] > shape[2] + 30.0, "{shape:?}");
    let object = run.numbers("first object, suffix first:");
    assert!(object[0] > object[2], "{object:?}");
    // An ordinary continuation: there is no suffix to leave out.
    for order in ["prefix first", "suffix first"] {
        let second = run.numbers(&format!("second object, {order}:"));
        assert!(second[0] <= second[1], "{second:?}");
    }
    // right, loss, dearer than captions alone
    let captions = run.numbers("captions: captions");
    println!("{}", run.line("captions: captions"));
    assert!(captions[0] > 30.0 && captions[1] < 0.4, "{captions:?}");
    assert!(captions[2].abs() < 1e-9, "{captions:?}");
    for order in ["prefix first", "suffix first"] {
        let priced = run.numbers(&format!("{order}: captions"));
        println!("{}", run.line(&format!("{order}: captions")));
        let difference = priced[1] - captions[1];
        assert!((priced[2] - difference).abs() < 0.002, "{priced:?}");
    }
    // right, without looking, loss
    for order in ["image-text", "text-image", "text-image-text"] {
        for rule in ["causal", "prefix-LM"] {
            let figures = run.numbers(&format!("{order}, {rule}:"));
            println!("{}", run.line(&format!("{order}, {rule}:")));
            assert!(figures[2] > 0.0 && figures[2] < 2.0, "{figures:?}");
        }
    }
    // The answers to the exercises.
    println!("{}", run.line("the model of captions:"));
    let asked = run.numbers("learnt suffix first:");
    println!("{}", run.line("learnt suffix first:"));
    assert!(asked[0] > asked[1] + 15.0, "{asked:?}");
    assert!(run.numbers("causal and last input: losses differ by at most")[0] < 1e-5);
    run.assert_self_contained();
}

//! The notebook that pretrains both halves from random weights, with the hidden answers to its exercises: each half leaves chance and its
//! control behind, and of the four joined pairs the two pretrained halves do best. Fewer steps than the default.

#![allow(clippy::print_stdout)] // figures for whoever reads the log

mod notebook_support;

use notebook_support::Executed;

#[test]
fn both_halves_learn_from_random_weights_and_each_is_worth_something_once_joined() {
    let run = Executed::with_answers(
        "15_the_halves.ipynb",
        &[
            "-p",
            "vit_steps=500",
            "-p",
            "llm_steps=150",
            "-p",
            "join_steps=250",
        ],
    );
    // The first number behind the start of a line.
    let first = |start: &str| {
        println!("{}", run.line(start));
        run.numbers(start)[0]
    };
    the_encoder_learns(&run, first);
    the_language_model_learns(&run, first);
    the_pretrained_halves_make_the_best_pair(first);

    // The answers to the exercises.
    let misled = first("kinds of other pictures: loss");
    assert!((2.9..3.5).contains(&misled), "{misled}"); // ln 24 = 3.18
    let misled = run.numbers("kinds of other pictures: loss");
    assert!(misled[1] < 15.0, "{misled:?}");
    let [triples, model] = run.numbers("counts behind two tokens:")[..] else {
        panic!("{}", run.line("counts behind two tokens:"));
    };
    assert!(model < triples, "{model}, {triples}");
    let contexts = run.numbers("contexts read:");
    assert!(
        contexts[0] < contexts[1] && contexts[1] < contexts[2],
        "{contexts:?}"
    );
    first("everything at once: loss");
    first("everything at once, drawn: caption");
    run.assert_self_contained();
}

/// Per cent of held-out pictures whose kind is right; chance is 4.2.
fn the_encoder_learns(run: &Executed, first: impl Fn(&str) -> f64) {
    let untrained = first("nothing trained: kind");
    let probe = first("head alone: kind");
    let trained = first("both trained: kind");
    assert!(untrained < 20.0, "{untrained}");
    assert!(
        trained > 50.0 && trained > probe + 10.0,
        "{trained}, {probe}"
    );
    // Per cent of the class token's attention on the object: before, after, and spread evenly.
    let looks = run.numbers("attention on the object:");
    println!("{looks:?}");
    assert!(
        looks[1] > looks[0] + 3.0 && looks[1] > looks[2] + 3.0,
        "{looks:?}"
    );
}

/// Nats a token of held-out captions, and how many of 100 drawn texts are captions.
fn the_language_model_learns(run: &Executed, first: impl Fn(&str) -> f64) {
    let [untrained, single, pairs, model, new] = [
        "loss, nothing trained:",
        "loss, each token's own count:",
        "loss, counts behind the last token:",
        "loss, language model:",
        "loss, language model, new captions only:",
    ]
    .map(&first);
    assert!((6.0..8.0).contains(&untrained), "{untrained}"); // ln 552 = 6.3
    assert!((3.0..3.6).contains(&single), "{single}");
    assert!((1.2..1.5).contains(&pairs), "{pairs}");
    assert!(model > 0.8 && model < pairs - 0.1, "{model}, {pairs}");
    assert!((new - model).abs() < 0.3, "{new}, {model}");
    let [untrained, pairs, model] = [
        "drawn, nothing trained:",
        "drawn, counts behind the last token:",
        "drawn, language model:",
    ]
    .map(&first);
    assert!(
        untrained <= 2.0 && pairs < model && model > 45.0,
        "{untrained}, {pairs}, {model}"
    );
    assert!(run.printed().contains("stand nowhere in the training text"));
}

/// Of each pair: the held-out loss, and per cent of drawn texts that name the one object.
fn the_pretrained_halves_make_the_best_pair(first: impl Fn(&str) -> f64) {
    let pairs = [
        "random encoder, random language model",
        "random encoder, pretrained language model",
        "pretrained encoder, random language model",
        "pretrained encoder, pretrained language model",
    ];
    let loss = pairs.map(|pair| first(&format!("{pair}: loss")));
    assert!(
        loss[3] + 0.05 < loss[1] && loss[1] + 0.5 < loss[2],
        "{loss:?}"
    );
    assert!(loss[2] + 0.05 < loss[0], "{loss:?}");
    let named = pairs.map(|pair| first(&format!("{pair}, drawn: names")));
    assert!(named[0] < 10.0 && named[2] < 10.0, "{named:?}");
    assert!(named[3] > named[1], "{named:?}");
    assert!(first("both pretrained, the next picture's object:") < 15.0);
}

//! The notebooks about training as a reader runs them, with the hidden answers to their exercises: what adapters are, questions, and runs
//! that can be trusted. The sizes are smaller than the default; what they prove does not depend on it.

#![allow(clippy::print_stdout)] // figures for whoever reads the log

mod notebook_support;

use notebook_support::Executed;

#[test]
fn lora_by_hand_equals_the_layer_its_rank_is_counted_and_more_of_it_gets_more_right() {
    let run = Executed::with_answers("05_lora.ipynb", &["-p", "steps=100", "-p", "seeds=1"]);
    assert!(run.numbers("by hand and by the layer: largest difference")[0] < 1e-4);
    assert_eq!(run.line("largest value of B"), "largest value of B: 0");
    assert!(run.shows(&["singular values of s·B·A", "rank 8"]));
    println!("{}", run.line("effective rank at the end"));
    let rank = run.numbers("effective rank at the end:");
    assert!(rank[0] > 1.0 && rank[0] < rank[1] / 2.0, "{rank:?}");
    println!("{}", run.line("right by rank"));
    // r = 0 17%, r = 1 45%, …: ranks and shares in turn.
    let right = run.numbers("right by rank:");
    assert_eq!(right.len(), 10, "{right:?}");
    assert!(right[9] > right[1] + 10.0, "{right:?}");
    let usual = run.numbers("without looking:")[0];
    assert!(right[9] > 2.0 * usual, "{right:?} {usual}");
    assert!(run.numbers("logits before and after merging: largest difference")[0] < 1e-3);
    let sizes = run.numbers("the adapter of rank 16:");
    println!("{}", run.line("the adapter of rank 16"));
    assert!(sizes[0] > 0.1 && sizes[0] * 4.0 < sizes[1], "{sizes:?}");
    assert_eq!(run.numbers("the blog's:"), [62_914_560.0, 884_736.0]);
    // The answers to the exercises.
    assert!(run.numbers("alpha doubled or B doubled: they differ by")[0] < 1e-5);
    println!(
        "{}\n{}",
        run.line("only the attention"),
        run.line("only the MLP")
    );
    assert_eq!(run.numbers("r = 64: scale"), [0.5, 4.0]);
    run.assert_self_contained();
}

#[test]
fn questions_are_scored_by_kind_beside_who_does_not_look_and_a_blind_teacher_is_judged() {
    let sizes = ["-p", "steps=300", "-p", "pictures=900", "-p", "asked=30"];
    let run = Executed::with_answers("06_question_answer.ipynb", &sizes);
    assert!(run.shows(&["most frequent answer", "right with it", "yes/no", "50.0%"]));
    assert!(run.shows(&[
        "blind (black picture)",
        "another picture",
        "exact match: where"
    ]));
    for kind in ["colour", "count", "size", "where", "yes/no"] {
        println!("{}", run.line(&format!("{kind}:")));
    }
    println!("{}", run.line("all:"));
    let figures = run.numbers("all:");
    assert!(figures[0] > figures[1] + 10.0, "{figures:?}");
    assert!(run.line("count:").ends_with("seen: yes"));
    assert!(run.shows(&["tell me what you see"]));
    // By rule nothing is false; the tiny model is judged, and found out where it is told of other pictures.
    assert!(run.shows(&["claims of place", "100.0%", "share true"]));
    assert!(run.shows(&["A dog sleeps beside it", "Unjudged"]));
    let told = run.numbers("true of what the teacher wrote")[0];
    let mistaken = run.numbers("told of other pictures")[0];
    println!("{told}% {mistaken}%");
    assert!(told > 50.0 && mistaken < told - 10.0, "{told} {mistaken}");
    assert!(run.line("ten steps on what").ends_with("10 steps taken"));
    // The answers to the exercises.
    assert!(run.printed().contains("asked "));
    assert!(run.numbers("prior of count")[0] > run.numbers("prior of count")[1]);
    let liar = run.numbers("the liar's share")[0];
    assert!(liar > 40.0 && liar < 90.0, "{liar}");
    run.assert_self_contained();
}

#[test]
fn a_run_that_breaks_off_is_resumed_to_the_bit_and_runs_are_scored_and_compared() {
    let run = Executed::with_answers("07_coco.ipynb", &["-p", "steps=160", "-p", "scored=24"]);
    // The folder was damaged in three ways, and lost no more than that.
    assert_eq!(
        run.line("1199 pictures"),
        "1199 pictures to learn from, 120 held out"
    );
    // An epoch is 150 steps: the picture that is cut off has come up.
    assert!(run.printed().contains("it is cut off in its picture data"));
    assert_eq!(
        run.line("left out while training"),
        "left out while training: 1"
    );
    assert_eq!(run.line("ended by"), "ended by: the power went off");
    assert_eq!(
        run.numbers("left behind: checkpoints of the steps"),
        [20.0, 40.0]
    );
    assert_eq!(
        run.line("resumed after step"),
        "resumed after step 40; 160 losses, all equal to the bit: true"
    );
    assert!(run.line("glassbox train").ends_with("night.toml"));
    println!("{}", run.line("CIDEr-D: "));
    let cider = run.numbers("CIDEr-D:");
    assert!(
        cider[0] > 2.0 * cider[1].max(cider[2]).max(cider[3]),
        "{cider:?}"
    );
    let differ = run.line("settings that differ");
    assert!(
        differ.contains("trainer.loss") && !differ.contains("learning_rate"),
        "{differ}"
    );
    assert!(run.shows(&["random-prefix", "finished"]));
    println!("{}", run.line("run again"));
    assert!(
        run.line("run again")
            .starts_with("run again: 8 trials known, 0 tried anew")
    );
    // The answers to the exercises.
    let refused = run.line("refused:");
    assert!(refused.contains("learning_rate"), "{refused}");
    let damaged = run.line("damaged:");
    assert!(
        damaged.contains("is damaged") && damaged.contains("step-00000140"),
        "{damaged}"
    );
    let steps = run.numbers("the newest is of step");
    assert_eq!(steps, [160.0, 140.0]);
    let interval = |name: &str| {
        let found = run.numbers(&format!("CIDEr-D of {name}:"));
        found[3] - found[2] // behind the figure and the 95%
    };
    assert!(interval("half") > interval("all"));
    run.assert_self_contained();
}

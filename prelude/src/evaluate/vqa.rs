//! VQA accuracy: an answer is right as far as people gave it, three of the others making it wholly right.
//!
//! As the official evaluation of VQA v2 has it: each answer is left out in turn, min(how many of the others agree / 3, 1), and
//! the mean over that. Where the people disagree, their answers and the model's are first made alike: punctuation, figures for
//! the words of numbers, no articles, the apostrophes of contractions.

use super::metric::{Answered, Metric, Score};
use crate::{Error, Result};

/// Fewest answers a question needs so that one can be wholly right: one that is left out and three that agree.
const FEWEST: usize = 4;

/// VQA accuracy. Its set has ten answers for each question.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let people = ["red", "red", "red", "crimson", "red", "dark red", "red", "red", "red", "crimson"];
/// let said = [Answered::new("Red", people), Answered::new("crimson", people)];
/// let score = &VqaAccuracy.scores(&said)?[0];
/// assert_eq!(score.each[0], 1.0); // three of ten people are enough
/// assert!(score.each[1] > 0.5 && score.each[1] < 1.0);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct VqaAccuracy;

impl Metric for VqaAccuracy {
    fn name(&self) -> String {
        "VQA accuracy".into()
    }

    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>> {
        if let Some(at) = answers
            .iter()
            .position(|answer| answer.references.len() < FEWEST)
        {
            return Err(Error::Input(format!(
                "VQA accuracy: question {at} has {} answers, fewer than the {FEWEST} with which one can be wholly right (VQA has \
                 10): use ExactMatch",
                answers[at].references.len()
            )));
        }
        let each = answers.iter().map(accuracy).collect();
        Ok(vec![Score::mean("VQA accuracy", each).as_share()])
    }
}

fn accuracy(answer: &Answered) -> f64 {
    let plain = |text: &str| text.replace(['\n', '\t'], " ").trim().to_string();
    let mut said = plain(&answer.prediction);
    let mut given: Vec<String> = answer.references.iter().map(|text| plain(text)).collect();
    if given.windows(2).any(|pair| pair[0] != pair[1]) {
        said = alike(&said);
        given.iter_mut().for_each(|text| *text = alike(text));
    }
    let agree = given.iter().filter(|text| **text == said).count();
    let each = given.iter().map(|left_out| {
        let others = agree - usize::from(*left_out == said);
        (others as f64 / 3.0).min(1.0)
    });
    each.sum::<f64>() / given.len() as f64
}

/// An answer as the official evaluation compares it.
pub fn alike(text: &str) -> String {
    words(&punctuation(text))
}

const MARKS: [char; 20] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',',
    '?',
];

/// Marks beside a space go, others become one; all go where a comma stands between figures. So do full stops before no figure.
fn punctuation(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let thousands = letters
        .windows(3)
        .any(|three| three[1] == ',' && three[0].is_numeric() && three[2].is_numeric());
    let mut out = text.to_string();
    for mark in MARKS.into_iter().chain(['!']) {
        let beside = text.contains(&format!("{mark} ")) || text.contains(&format!(" {mark}"));
        out = out.replace(mark, if beside || thousands { "" } else { " " });
    }
    let letters: Vec<char> = out.chars().collect();
    let kept = letters.iter().enumerate().filter(|(at, letter)| {
        **letter != '.' || letters.get(at + 1).is_some_and(|next| next.is_numeric())
    });
    kept.map(|(_, letter)| *letter).collect()
}

/// Words in lower case: figures for numbers, no articles, contractions with their apostrophes.
fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    let kept = lower.split_whitespace().filter_map(|word| {
        Some(match word {
            "a" | "an" | "the" => return None,
            "none" | "zero" => "0".to_string(),
            "one" => "1".into(),
            "two" => "2".into(),
            "three" => "3".into(),
            "four" => "4".into(),
            "five" => "5".into(),
            "six" => "6".into(),
            "seven" => "7".into(),
            "eight" => "8".into(),
            "nine" => "9".into(),
            "ten" => "10".into(),
            word => contraction(word),
        })
    });
    kept.collect::<Vec<_>>().join(" ")
}

/// Contractions that the official evaluation mends where an apostrophe is missing.
const CONTRACTIONS: &str = "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't \
    he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've \
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's \
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're \
    there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's \
    where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all \
    y'all'll y'all'd've you'd you'd've you'll you're you've";

fn contraction(word: &str) -> String {
    let bare = word.replace('\'', "");
    // "its", "were", "wed", "well", "shed", "shell", "hell", "ill", "id" are words of their own and not in the list.
    let known = CONTRACTIONS.split_whitespace().find(|full| {
        let apostrophes = |text: &str| text.matches('\'').count();
        let missing = apostrophes(full).saturating_sub(apostrophes(word));
        full.replace('\'', "") == bare && missing == 1
    });
    match (known, word) {
        // As in the official list.
        (_, "somebody'd") => "somebodyd".into(),
        (Some(full), _) => full.to_string(),
        (None, _) => word.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(said: &str, given: [&str; 10]) -> f64 {
        accuracy(&Answered::new(said, given))
    }

    #[test]
    fn each_answer_is_left_out_in_turn() {
        let four = [
            "yes", "yes", "yes", "yes", "no", "no", "no", "no", "no", "no",
        ];
        assert!((of("yes", four) - 1.0).abs() < 1e-12);
        let three = [
            "yes", "yes", "yes", "no", "no", "no", "no", "no", "no", "no",
        ];
        // Three times two others agree, seven times three.
        assert!((of("yes", three) - (3.0 * 2.0 / 3.0 + 7.0) / 10.0).abs() < 1e-12);
        let one = ["yes", "no", "no", "no", "no", "no", "no", "no", "no", "no"];
        assert!((of("yes", one) - 9.0 / 3.0 / 10.0).abs() < 1e-12);
        assert_eq!(of("maybe", one), 0.0);
    }

    #[test]
    fn answers_are_made_alike_where_people_disagree() {
        for (text, wanted) in [
            ("The Two dogs.", "2 dogs"),
            ("none", "0"),
            ("dont know", "don't know"),
            ("t-shirt", "t shirt"),
            ("red, white", "red white"),
            ("1,000", "1000"),
            ("3.5", "3.5"),
            ("10 a.m.", "10 am"),
            ("its", "its"),
            ("yes!", "yes"),
            ("yes !", "yes"),
            ("couldn'tve", "couldn't've"),
        ] {
            assert_eq!(alike(text), wanted, "{text}");
        }
        // All of one mind: compared as they are written.
        assert_eq!(of("The cat", ["the cat"; 10]), 0.0);
    }

    #[test]
    fn too_few_answers_say_what_to_use() {
        let complaint = VqaAccuracy
            .scores(&[Answered::new("yes", ["yes"])])
            .map(|_| ());
        assert!(complaint.is_err_and(|error| error.to_string().contains("ExactMatch")));
    }
}

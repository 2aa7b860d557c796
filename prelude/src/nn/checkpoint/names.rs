//! Names of weights as a file has them ↔ names as they are here, by a table of rules; a tensor may hold several of ours.
//!
//! ```text
//! model.vision_tower.encoder.layers.3.self_attn.q_proj.weight ◀─ Rule { theirs: "model.vision_tower.", ours: ["image_encoder."] } ─▶
//! image_encoder.encoder.layers.3.self_attn.q_proj.weight
//! ```

use super::Entry;
use std::collections::BTreeMap;

/// A beginning of names, in which `*` stands for a layer's number, in the file and here. Where there are several of ours the rows of
/// the file's tensor are theirs in turn, in equal parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub theirs: &'static str,
    pub ours: &'static [&'static str],
}

impl Rule {
    pub const fn new(theirs: &'static str, ours: &'static [&'static str]) -> Self {
        Self { theirs, ours }
    }
}

/// The rules that a file's names follow. Of several that match a name the first counts.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    rules: &'static [Rule],
    /// Which of them some name in the file follows.
    used: Vec<bool>,
}

impl Names {
    /// Of several sets of rules the one that knows most of these names.
    pub fn of<'a>(
        sets: &[&'static [Rule]],
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<Self> {
        let all = sets.iter().map(|&rules| {
            let mut used = vec![false; rules.len()];
            let mut known = 0;
            for name in names.clone() {
                let rule = rules
                    .iter()
                    .position(|rule| swap(rule.theirs, "", name).is_some());
                if let Some(rule) = rule {
                    used[rule] = true;
                    known += 1;
                }
            }
            (known, Self { rules, used })
        });
        // Of equals the first.
        let best = all.rev().max_by_key(|(known, _)| *known);
        best.map(|(_, names)| names)
    }

    /// What a name in the file is here: nothing, one name, or several.
    pub fn ours(&self, theirs: &str) -> Vec<String> {
        for rule in self.rules {
            let names = rule.ours.iter().map(|ours| swap(rule.theirs, ours, theirs));
            let names: Option<Vec<String>> = names.collect();
            if let Some(names) = names.filter(|names| !names.is_empty()) {
                return names;
            }
        }
        Vec::new()
    }

    /// What a name of ours is, or would be, in the file.
    pub fn theirs(&self, ours: &str) -> String {
        let found = |used_only: bool| {
            let rules = self.rules.iter().zip(&self.used);
            let mut rules = rules.filter(|(_, used)| !used_only || **used);
            rules.find_map(|(rule, _)| {
                let mut patterns = rule.ours.iter();
                patterns.find_map(|pattern| swap(pattern, rule.theirs, ours))
            })
        };
        found(true)
            .or_else(|| found(false))
            .unwrap_or_else(|| ours.to_owned())
    }
}

/// `name` with another beginning, if it begins with `from`.
fn swap(from: &str, to: &str, name: &str) -> Option<String> {
    let (mut rest, mut numbers) = (name, Vec::new());
    for (at, piece) in from.split('*').enumerate() {
        if at > 0 {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            if digits == 0 {
                return None;
            }
            numbers.push(&rest[..digits]);
            rest = &rest[digits..];
        }
        rest = rest.strip_prefix(piece)?;
    }
    let mut numbers = numbers.into_iter();
    let mut swapped = String::new();
    for (at, piece) in to.split('*').enumerate() {
        if at > 0 {
            swapped.push_str(numbers.next()?);
        }
        swapped.push_str(piece);
    }
    Some(swapped + rest)
}

/// The tensors of a file under our names; those that no rule knows keep theirs.
pub(super) fn renamed(
    entries: BTreeMap<String, Entry>,
    names: &Names,
) -> Result<BTreeMap<String, Entry>, String> {
    let mut ours = BTreeMap::new();
    for (theirs, entry) in entries {
        let own = match names.ours(&theirs) {
            own if own.is_empty() => vec![theirs.clone()],
            own => own,
        };
        let parts = own.len();
        let rows = entry.shape.first().copied().unwrap_or(1);
        if parts > 1 && (entry.shape.is_empty() || !rows.is_multiple_of(parts)) {
            return Err(format!(
                "tensor {theirs} of shape {:?} should hold the rows of {parts}: {}",
                entry.shape,
                own.join(", ")
            ));
        }
        let bytes = (entry.end - entry.start) / parts;
        for (at, name) in own.into_iter().enumerate() {
            let mut shape = entry.shape.clone();
            if parts > 1 {
                shape[0] = rows / parts;
            }
            let part = Entry {
                file: entry.file,
                dtype: entry.dtype.clone(),
                shape,
                start: entry.start + at * bytes,
                end: entry.start + (at + 1) * bytes,
            };
            if ours.insert(name.clone(), part).is_some() {
                return Err(format!(
                    "several tensors are {name}, one of them {theirs}: which is meant?"
                ));
            }
        }
    }
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &[Rule] = &[
        Rule::new("tower.inner.", &["image_encoder."]),
        Rule::new("tower.", &["image_encoder."]),
        Rule::new("text.", &["llm."]),
    ];
    const FUSED: &[Rule] = &[
        Rule::new(
            "blocks.*.attn.qkv.",
            &["layers.*.q.", "layers.*.k.", "layers.*.v."],
        ),
        Rule::new("blocks.*.", &["layers.*."]),
    ];

    #[test]
    fn names_go_both_ways_by_the_rules_that_the_file_follows() {
        let files = ["tower.inner.a.weight", "text.b"];
        let names = Names::of(&[FUSED, OLD], files.into_iter()).expect("some");
        assert_eq!(
            names.ours("tower.inner.a.weight"),
            ["image_encoder.a.weight"]
        );
        assert_eq!(names.theirs("image_encoder.c"), "tower.inner.c");
        assert_eq!(names.theirs("llm.b"), "text.b");
        assert_eq!(names.theirs("other"), "other");
        assert!(names.ours("head").is_empty());
        let names = Names::of(&[OLD], ["tower.a"].into_iter()).expect("some");
        assert_eq!(names.theirs("image_encoder.a"), "tower.a");
    }

    #[test]
    fn a_tensor_of_several_is_cut_by_rows() {
        let entry = |shape: &[usize]| Entry {
            file: 0,
            dtype: "F32".into(),
            shape: shape.to_vec(),
            start: 8,
            end: 8 + 4 * shape.iter().product::<usize>(),
        };
        let names = Names::of(&[FUSED], ["blocks.11.attn.qkv.weight"].into_iter()).expect("some");
        let of = |shape| BTreeMap::from([("blocks.11.attn.qkv.weight".to_owned(), entry(shape))]);
        let parts = renamed(of(&[6, 5]), &names).expect("cut");
        let k = &parts["layers.11.k.weight"];
        assert_eq!((k.shape.as_slice(), k.start, k.end), (&[2, 5][..], 48, 88));
        assert_eq!(
            names.theirs("layers.11.v.weight"),
            "blocks.11.attn.qkv.weight"
        );
        assert!(renamed(of(&[7, 5]), &names).is_err_and(|error| error.contains("[7, 5]")));
        assert!(names.ours("blocks.x.attn.qkv.weight").is_empty());
    }
}

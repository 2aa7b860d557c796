//! Which layers a LoRA config means, matched as PEFT matches them: names at the end of a module path, and Python's regular
//! expressions.
//!
//! ```text
//! target_modules, exclude_modules   list: the path is a name or ends in `.name`      text: re.fullmatch
//! rank_pattern, alpha_pattern       re.match(r"(.*\.)?(KEY)$"), the first key that matches
//! layers_pattern                    re.match(r"(?:^|.*?\.)PATTERN\.(\d+)\.")
//! ```

use crate::{Error, Result};
use fancy_regex::Regex;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::marker::PhantomData;

/// PEFT's word for every linear layer but the head.
const ALL_LINEAR: &str = "all-linear";

/// Layers by their names, or by one regular expression.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let by_name = LoraTargets::named(&["query", "value"]);
/// assert!(by_name.names("layer.0.attention.query") && !by_name.names("layer.0.attention.key"));
/// let by_pattern = LoraTargets::Pattern(r"layer\.[01]\..*".into()); // a regular expression for the whole path
/// assert!(by_pattern.names("layer.1.attention.key") && !by_pattern.names("layer.2.attention.key"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LoraTargets {
    /// A layer whose module path is one of these names, or ends in a dot and one of them.
    Names(Vec<String>),
    /// A layer whose whole module path this regular expression matches; `all-linear` for every linear layer but the head.
    Pattern(String),
}

impl LoraTargets {
    /// Layers by name; `all-linear` alone stands for all.
    pub fn named(names: &[&str]) -> Self {
        match names {
            [ALL_LINEAR] => Self::Pattern(ALL_LINEAR.into()),
            _ => Self::Names(names.iter().map(ToString::to_string).collect()),
        }
    }

    /// Whether this is every linear layer but the head.
    pub fn is_all_linear(&self) -> bool {
        matches!(self, Self::Pattern(pattern) if pattern.eq_ignore_ascii_case(ALL_LINEAR))
    }

    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Names(names) => names.is_empty(),
            Self::Pattern(pattern) => pattern.is_empty(),
        }
    }

    /// Whether the layer at this module path is among them.
    pub fn names(&self, module: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| ends_in(module, name)),
            Self::Pattern(pattern) => matches(&format!(r"\A(?:{pattern})\z"), module),
        }
    }

    /// As [`LoraTargets::names`], with `all-linear` understood.
    pub(super) fn adapts(&self, module: &str) -> bool {
        match self.is_all_linear() {
            true => !ends_in(module, "lm_head"),
            false => self.names(module),
        }
    }

    /// The regular expression, if it is one.
    pub(super) fn pattern(&self) -> Option<&String> {
        match self {
            Self::Pattern(pattern) if !self.is_all_linear() => Some(pattern),
            _ => None,
        }
    }
}

impl std::fmt::Display for LoraTargets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Names(names) => f.write_str(&names.join(" or ")),
            Self::Pattern(pattern) => f.write_str(pattern),
        }
    }
}

impl From<Vec<String>> for LoraTargets {
    fn from(names: Vec<String>) -> Self {
        Self::Names(names)
    }
}

/// Values by regular expression, in the order in which they are tried.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let ranks: LoraPatterns<usize> = [("down_proj".to_string(), 16)].into_iter().collect();
/// let config = LoraConfig { rank_pattern: ranks, ..LoraConfig::new(4, 8.0, &["all-linear"]) };
/// assert_eq!(config.rank("layers.0.mlp.down_proj"), 16);
/// assert_eq!(config.rank("layers.0.self_attn.o_proj"), 4);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LoraPatterns<T>(Vec<(String, T)>);

impl<T> Default for LoraPatterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> LoraPatterns<T> {
    /// The value of the first pattern that matches the end of a module path.
    pub fn get(&self, module: &str) -> Option<&T> {
        let found = self.0.iter().find(|(key, _)| matches(&at_end(key), module));
        found.map(|(_, value)| value)
    }

    /// The patterns.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values, in the order of the patterns.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<T> FromIterator<(String, T)> for LoraPatterns<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for LoraPatterns<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for LoraPatterns<T> {
    /// From an object; `null` is an empty one.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = LoraPatterns<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of patterns and numbers")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(LoraPatterns::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs: Vec<(String, T)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    // As in a dict of Python: the place of the first, the value of the last.
                    match pairs.iter_mut().find(|(other, _)| *other == key) {
                        Some(pair) => pair.1 = value,
                        None => pairs.push((key, value)),
                    }
                }
                Ok(LoraPatterns(pairs))
            }
        }
        deserializer.deserialize_any(Read(PhantomData))
    }
}

/// The number of the layer that a module path lies in: the first behind `layers.` or whatever one of these patterns matches.
pub(super) fn layer_index(module: &str, patterns: &[String]) -> Option<usize> {
    if patterns.is_empty() {
        // r".*?\.[^.]*\.(\d+)\.": something, the list's name, its number, something more.
        let parts: Vec<&str> = module.split('.').collect();
        let inner = parts.get(2..parts.len().saturating_sub(1))?;
        return inner.iter().find_map(|part| part.parse().ok());
    }
    patterns.iter().find_map(|pattern| {
        let regex = Regex::new(&before_number(pattern)).ok()?;
        let found = regex.captures(module).ok()??;
        found.name("idx")?.as_str().parse().ok()
    })
}

/// Checks regular expressions of a field.
///
/// # Errors
/// Names the field and the expression.
pub(super) fn check<'a>(field: &str, patterns: impl IntoIterator<Item = &'a String>) -> Result<()> {
    for pattern in patterns {
        let whole = match field {
            "rank_pattern" | "alpha_pattern" => at_end(pattern),
            "layers_pattern" => before_number(pattern),
            _ => format!(r"\A(?:{pattern})\z"),
        };
        if let Err(error) = Regex::new(&whole) {
            let error = error.to_string();
            let why = error.trim().lines().last().unwrap_or_default();
            return Err(Error::Config(format!(
                "{field}: {pattern:?} is not a regular expression that can be read here: {}",
                why.trim_start_matches("error: ")
            )));
        }
    }
    Ok(())
}

fn at_end(key: &str) -> String {
    format!(r"\A(.*\.)?({key})\z")
}

fn before_number(pattern: &str) -> String {
    format!(r"\A(?:\A|.*?\.){pattern}\.(?P<idx>\d+)\.")
}

fn matches(pattern: &str, text: &str) -> bool {
    // A pattern that cannot be read was refused before.
    Regex::new(pattern).is_ok_and(|regex| regex.is_match(text).unwrap_or(false))
}

/// Whether a module path is `name` or ends in `.name`.
pub(super) fn ends_in(module: &str, name: &str) -> bool {
    module
        .strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A value, or a list of them; `null` is none.
pub(super) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given<T> {
        One(T),
        Many(Vec<T>),
    }
    Ok(
        Option::<Given<T>>::deserialize(deserializer)?.map(|given| match given {
            Given::One(value) => vec![value],
            Given::Many(values) => values,
        }),
    )
}

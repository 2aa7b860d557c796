//! `-p name=value`: new values for the cell tagged `parameters`, in papermill's convention.
//!
//! texts from the command line + the `let` lines of the tagged cell → one cell tagged `injected-parameters`, put right
//! after the tagged cell or in place of an earlier injected one. A value is read by the type that the tagged cell
//! declares (annotation, suffix or literal), so `-p steps=50` for `let steps: usize = 300;` injects a `usize`.

use super::document::{Cell, Notebook};
use super::highlight::{Kind, Token, tokens};

/// Why parameters can't be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// Not `name=value`.
    #[error("`-p {0}` is not name=value; write for example `-p steps=50`")]
    Syntax(String),
    /// The notebook takes no parameters.
    #[error(
        "`-p {0}=…` was given, but no cell of the notebook is tagged `parameters`; tag the cell with the defaults"
    )]
    NoCell(String),
    /// The tagged cell declares no such name.
    #[error("the notebook has no parameter `{name}`; it has: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is, as a list for people.
        known: String,
    },
    /// The value does not fit the declared type.
    #[error("parameter `{name}` is {wanted}; `{value}` is not")]
    Value {
        /// The parameter.
        name: String,
        /// What it takes, such as "an integer (usize)".
        wanted: String,
        /// What was given.
        value: String,
    },
    /// The declared type is not one that a command line can give.
    #[error(
        "parameter `{name}` has the type `{declared}`, and -p sets integers, floats, bool and text only; change the cell \
         instead"
    )]
    Type {
        /// The parameter.
        name: String,
        /// Its type in the tagged cell.
        declared: String,
    },
}

/// One `-p name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The variable.
    pub name: String,
    /// The value as typed.
    pub value: String,
}

impl std::str::FromStr for Parameter {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Parameter, ParameterError> {
        let fault = || ParameterError::Syntax(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(fault)?;
        let name = name.trim();
        let starts = name.starts_with(|c: char| c == '_' || c.is_alphabetic());
        if !starts || !name.chars().all(|c| c == '_' || c.is_alphanumeric()) {
            return Err(fault());
        }
        Ok(Parameter {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Puts the values into the notebook. Without parameters the notebook stays as it is.
///
/// # Errors
/// No tagged cell, an unknown name, or a value that does not fit the declared type; the notebook is then unchanged.
pub fn inject(notebook: &mut Notebook, parameters: &[Parameter]) -> Result<(), ParameterError> {
    let Some(first) = parameters.first() else {
        return Ok(());
    };
    let tagged = |tag: &str| notebook.cells().iter().position(|cell| cell.has_tag(tag));
    let Some(at) = tagged("parameters") else {
        return Err(ParameterError::NoCell(first.name.clone()));
    };
    let earlier = tagged("injected-parameters");

    let source = notebook.cells()[at].source();
    let declared = declarations(&source);
    let mut lines = vec!["// Parameters".to_owned()];
    for (index, parameter) in parameters.iter().enumerate() {
        let overridden = parameters[index + 1..]
            .iter()
            .any(|later| later.name == parameter.name);
        if !overridden {
            lines.push(line(parameter, &declared)?);
        }
    }
    let cell = Cell::new_code(
        &lines.join("\n"),
        &["injected-parameters"],
        notebook.fresh_id(),
    );
    match earlier {
        Some(index) => {
            notebook.remove(index);
            notebook.insert(index, cell);
        }
        None => notebook.insert(at + 1, cell),
    }
    Ok(())
}

/// `let [mut] name[: type] = value;` as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Declaration {
    name: String,
    mutable: bool,
    /// The type that a new value must have, if the cell says.
    declared: Option<String>,
    takes: Takes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Integer,
    Float,
    Bool,
    /// `&str`, or `String` where `owned`.
    Text {
        owned: bool,
    },
    /// An expression whose type the cell does not say.
    Anything,
    /// A declared type that has no literals.
    Nothing,
}

fn line(parameter: &Parameter, declared: &[Declaration]) -> Result<String, ParameterError> {
    let name = &parameter.name;
    let Some(declaration) = declared.iter().rev().find(|d| d.name == *name) else {
        let names: Vec<_> = declared.iter().map(|d| format!("`{}`", d.name)).collect();
        let known = if names.is_empty() {
            "none (the tagged cell has no `let`)".into()
        } else {
            names.join(", ")
        };
        return Err(ParameterError::Unknown {
            name: name.clone(),
            known,
        });
    };
    let literal = literal(parameter, declaration)?;
    let mutable = if declaration.mutable { "mut " } else { "" };
    let annotation = declaration
        .declared
        .as_ref()
        .map(|d| format!(": {d}"))
        .unwrap_or_default();
    Ok(format!("let {mutable}{name}{annotation} = {literal};"))
}

fn literal(parameter: &Parameter, declaration: &Declaration) -> Result<String, ParameterError> {
    let value = parameter.value.trim();
    let declared = declaration.declared.as_deref();
    let refuse = |wanted: &str| {
        let wanted = declared.map_or(wanted.to_owned(), |d| format!("{wanted} ({d})"));
        ParameterError::Value {
            name: parameter.name.clone(),
            wanted,
            value: parameter.value.clone(),
        }
    };
    match declaration.takes {
        Takes::Integer => {
            integer(value, declared.unwrap_or("i32")).ok_or_else(|| refuse("an integer"))
        }
        Takes::Float => float(value, declared.unwrap_or("f64")).ok_or_else(|| refuse("a number")),
        Takes::Bool => match value {
            "true" | "True" => Ok("true".into()),
            "false" | "False" => Ok("false".into()),
            _ => Err(refuse("true or false")),
        },
        Takes::Text { owned } => {
            let text = format!("{:?}", parameter.value);
            Ok(if owned {
                format!("{text}.to_string()")
            } else {
                text
            })
        }
        Takes::Anything => Ok(guess(&parameter.value)),
        Takes::Nothing => Err(ParameterError::Type {
            name: parameter.name.clone(),
            declared: declared.unwrap_or("unknown").to_owned(),
        }),
    }
}

/// The literal for a value whose type nothing declares: integer, float, bool, else text.
fn guess(value: &str) -> String {
    let trimmed = value.trim();
    match trimmed {
        "true" | "True" => return "true".into(),
        "false" | "False" => return "false".into(),
        _ => {}
    }
    let looks_numeric = trimmed
        .trim_start_matches('-')
        .starts_with(|c: char| c.is_ascii_digit() || c == '.');
    integer(trimmed, "i32")
        .or_else(|| integer(trimmed, "i64").map(|literal| format!("{literal}i64")))
        .or_else(|| {
            if looks_numeric {
                float(trimmed, "f64")
            } else {
                None
            }
        })
        .unwrap_or_else(|| format!("{value:?}"))
}

fn integer(value: &str, declared: &str) -> Option<String> {
    let digits = value.replace('_', "");
    let number: i128 = digits.parse().ok()?;
    let fits = match declared {
        "i8" => i8::try_from(number).is_ok(),
        "i16" => i16::try_from(number).is_ok(),
        "i32" => i32::try_from(number).is_ok(),
        "i64" | "isize" => i64::try_from(number).is_ok(),
        "u8" => u8::try_from(number).is_ok(),
        "u16" => u16::try_from(number).is_ok(),
        "u32" => u32::try_from(number).is_ok(),
        "u64" | "usize" => u64::try_from(number).is_ok(),
        "u128" => number >= 0,
        _ => true,
    };
    fits.then(|| number.to_string())
}

fn float(value: &str, declared: &str) -> Option<String> {
    let number: f64 = value.replace('_', "").parse().ok()?;
    Some(if number.is_nan() {
        format!("{declared}::NAN")
    } else if number.is_infinite() {
        format!(
            "{declared}::{}",
            if number > 0.0 {
                "INFINITY"
            } else {
                "NEG_INFINITY"
            }
        )
    } else {
        // `{:?}` always has a point or an exponent, so an integer becomes a float literal.
        format!("{number:?}")
    })
}

/// The `let` statements of a cell, outside of any block.
fn declarations(source: &str) -> Vec<Declaration> {
    let all: Vec<Token<'_>> = tokens(source)
        .into_iter()
        .filter(|t| !matches!(t.kind, Kind::Space | Kind::Comment))
        .collect();
    let mut found = Vec::new();
    let mut depth = 0usize;
    for (index, token) in all.iter().enumerate() {
        match token.text {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            "let" if depth == 0 => found.extend(declaration(&all[index + 1..])),
            _ => {}
        }
    }
    found
}

fn declaration(after_let: &[Token<'_>]) -> Option<Declaration> {
    let mutable = after_let.first()?.text == "mut";
    let rest = &after_let[usize::from(mutable)..];
    let name = rest
        .first()
        .filter(|t| !matches!(t.kind, Kind::Punctuation | Kind::Keyword))?
        .text
        .to_owned();
    let rest = &rest[1..];
    let equals = rest.iter().position(|t| t.text == "=")?;
    let end = rest
        .iter()
        .position(|t| t.text == ";")
        .unwrap_or(rest.len());
    let (value, annotation) = (rest.get(equals + 1..end)?, &rest[..equals]);
    let annotation = match annotation.split_first() {
        Some((colon, types)) if colon.text == ":" => Some(spell(types)),
        Some(_) => return None,
        None => None,
    };
    let takes = match &annotation {
        Some(declared) => by_type(declared),
        None => by_value(value),
    };
    let declared = annotation.or_else(|| suffix(value));
    Some(Declaration {
        name,
        mutable,
        declared,
        takes,
    })
}

/// Type tokens as text: `Option<usize>`, `&'static str`.
fn spell(types: &[Token<'_>]) -> String {
    let mut text = String::new();
    for token in types {
        let word = |c: char| c == '_' || c.is_alphanumeric();
        if text.ends_with(word) && token.text.starts_with(word) {
            text.push(' ');
        }
        text.push_str(token.text);
    }
    text
}

fn by_type(declared: &str) -> Takes {
    match declared {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" | "u8" | "u16" | "u32" | "u64" | "u128"
        | "usize" => Takes::Integer,
        "f32" | "f64" => Takes::Float,
        "bool" => Takes::Bool,
        "String" => Takes::Text { owned: true },
        "&str" | "&'static str" => Takes::Text { owned: false },
        _ => Takes::Nothing,
    }
}

fn by_value(value: &[Token<'_>]) -> Takes {
    let texts: Vec<&str> = value.iter().map(|t| t.text).collect();
    let number = match value {
        [minus, number] if minus.text == "-" => Some(number),
        [number] => Some(number),
        _ => None,
    };
    if let Some(number) = number.filter(|t| t.kind == Kind::Number) {
        return if is_float(number.text) {
            Takes::Float
        } else {
            Takes::Integer
        };
    }
    match texts.as_slice() {
        ["true" | "false"] => Takes::Bool,
        [text] if text.ends_with('"') => Takes::Text { owned: false },
        [text, ".", "to_string" | "to_owned" | "into", "(", ")"] if text.ends_with('"') => {
            Takes::Text { owned: true }
        }
        ["String", ":", ":", "from" | "new", "(", .., ")"] => Takes::Text { owned: true },
        _ => Takes::Anything,
    }
}

fn is_float(number: &str) -> bool {
    let radix = number.starts_with("0x") || number.starts_with("0b") || number.starts_with("0o");
    !radix
        && (number.contains(['.', 'e', 'E']) || number.ends_with("f32") || number.ends_with("f64"))
}

/// The type in a number's suffix: `300usize`, `1e-3_f32`.
fn suffix(value: &[Token<'_>]) -> Option<String> {
    let number = value
        .last()
        .filter(|t| t.kind == Kind::Number && value.len() <= 2)?
        .text;
    let types = [
        "isize", "usize", "i128", "u128", "i16", "i32", "i64", "u16", "u32", "u64", "i8", "u8",
        "f32", "f64",
    ];
    let hexadecimal = number.starts_with("0x");
    types
        .iter()
        .find(|t| number.ends_with(**t) && !(hexadecimal && t.starts_with('f')))
        .map(|t| (*t).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: &str = r#"
// how long, and how fast
let steps: usize = 300; let mut lr = 3e-4;
let momentum = 0.9_f32;
let name = "tiny".to_string();   // a String
let tag = "blog";
let verbose = false;
let shift = -2;
let dir = std::env::temp_dir();
let size: Option<usize> = None;
fn helper() { let hidden = 1; }
"#;

    fn notebook(cells: serde_json::Value) -> Notebook {
        let text = serde_json::json!({
            "cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5,
        });
        Notebook::parse(&text.to_string()).unwrap()
    }

    fn with_defaults() -> Notebook {
        notebook(serde_json::json!([
            {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# title"},
            {"cell_type": "code", "id": "b", "metadata": {"tags": ["parameters"]}, "source": DEFAULTS,
             "outputs": [], "execution_count": null},
            {"cell_type": "code", "id": "c", "metadata": {}, "source": "steps", "outputs": [], "execution_count": null},
        ]))
    }

    fn injected(values: &[&str]) -> Result<String, ParameterError> {
        let mut notebook = with_defaults();
        let values: Result<Vec<Parameter>, _> = values.iter().map(|v| v.parse()).collect();
        inject(&mut notebook, &values?)?;
        assert!(notebook.cells()[2].has_tag("injected-parameters"));
        Ok(notebook.cells()[2].source())
    }

    #[test]
    fn values_take_the_declared_types() {
        let source = injected(&[
            "steps=50",
            "lr=1",
            "momentum=0.5",
            "name=5",
            "tag=it's \"new\"",
            "verbose=True",
            "shift=-7",
            "dir=/tmp",
        ]);
        assert_eq!(
            source.unwrap(),
            "// Parameters\nlet steps: usize = 50;\nlet mut lr = 1.0;\nlet momentum: f32 = 0.5;\n\
             let name = \"5\".to_string();\nlet tag = \"it's \\\"new\\\"\";\nlet verbose = true;\nlet shift = -7;\n\
             let dir = \"/tmp\";"
        );
    }

    #[test]
    fn the_last_of_two_values_counts() {
        assert_eq!(
            injected(&["steps=1", "steps=2"]).unwrap(),
            "// Parameters\nlet steps: usize = 2;"
        );
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = injected(&["stepz=1"]).unwrap_err().to_string();
        assert_eq!(
            message,
            "the notebook has no parameter `stepz`; it has: `steps`, `lr`, `momentum`, `name`, `tag`, `verbose`, \
             `shift`, `dir`, `size`"
        );
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        for (value, part) in [
            ("steps=ten", "an integer (usize); `ten`"),
            ("steps=-1", "an integer (usize); `-1`"),
            ("steps=1.5", "an integer (usize)"),
            ("lr=fast", "a number"),
            ("verbose=1", "true or false"),
            ("size=3", "has the type `Option<usize>`"),
            ("9x=1", "not name=value"),
            ("steps", "not name=value"),
            ("hidden=1", "no parameter `hidden`"),
        ] {
            let message = injected(&[value]).unwrap_err().to_string();
            assert!(message.contains(part), "{value}: {message}");
        }
    }

    #[test]
    fn an_earlier_injected_cell_is_replaced() {
        let mut notebook = with_defaults();
        inject(&mut notebook, &["steps=1".parse().unwrap()]).unwrap();
        inject(&mut notebook, &["steps=2".parse().unwrap()]).unwrap();
        assert_eq!(notebook.cells().len(), 4);
        assert_eq!(
            notebook.cells()[2].source(),
            "// Parameters\nlet steps: usize = 2;"
        );
    }

    #[test]
    fn a_notebook_without_the_tag_says_so() {
        let mut notebook = notebook(serde_json::json!([]));
        let error = inject(&mut notebook, &["steps=1".parse().unwrap()]).unwrap_err();
        assert_eq!(error, ParameterError::NoCell("steps".into()));
    }

    #[test]
    fn undeclared_types_are_guessed_from_the_value() {
        assert_eq!(guess("5"), "5");
        assert_eq!(guess("5000000000"), "5000000000i64");
        assert_eq!(guess("1e3"), "1000.0");
        assert_eq!(guess("inf"), "\"inf\"");
        assert_eq!(guess("true"), "true");
        assert_eq!(guess(" a b"), "\" a b\"");
        assert_eq!(float("inf", "f32").as_deref(), Some("f32::INFINITY"));
    }
}

//! The V3000 form of a mol block, which has no limit of 999 atoms: lines that begin with `M  V30` → atoms and bonds.
//!
//! ```text
//! BEGIN CTAB │ COUNTS atoms bonds ... │ BEGIN ATOM │ number symbol x y z map [CHG=1 ...] │ END ATOM │ BEGIN BOND │ number kind from to [CFG=1] │ ...
//! ```
//! A line that ends in `-` goes on in the next. Atoms have any numbers. Blocks besides atoms and bonds (groups, collections of centres) are
//! counted as not used; keywords that ask for something (query lists, ring counts) are refused.

use std::collections::HashMap;

use super::molecule::MOST_ATOMS;
use super::sdf::{Block, Lines, WEDGES};
use crate::Result;

/// What of an atom or a bond can be left out: how it is drawn, or what belongs to a reaction or a polymer.
const LEFT_OUT: [&str; 12] = [
    "CLASS", "SEQID", "INVRET", "ATTCHPT", "ATTCHORD", "RGROUPS", "SEQNAME", "DISP", "COLOR",
    "RXCTR", "TOPO", "STBOX",
];

/// Reads from behind the counts of the old form to `M  END`.
pub(super) fn block(lines: &mut Lines) -> Result<Block> {
    let mut reader = Reader {
        block: Block::default(),
        numbers: HashMap::new(),
    };
    let mut counts = None;
    let mut inside: Vec<String> = Vec::new();
    while let Some(line) = joined(lines)? {
        let words = words(lines, &line)?;
        let word = |at: usize| words.get(at).map_or("", String::as_str);
        match (word(0), inside.last().map(String::as_str)) {
            ("BEGIN", _) => {
                let name = word(1).to_owned();
                if !["CTAB", "ATOM", "BOND"].contains(&name.as_str()) {
                    reader.block.builder.note(&format!("blocks {name}"));
                }
                inside.push(name);
            }
            ("END", open) if open == Some(word(1)) => {
                inside.pop();
            }
            ("END", open) => {
                return Err(lines.fault(format!(
                    "END {} stands where {} is open",
                    word(1),
                    open.unwrap_or("nothing")
                )));
            }
            ("COUNTS", Some("CTAB")) => {
                let count = |at: usize| number(lines, word(at), "a count");
                let (atoms, bonds) = (count(1)?, count(2)?);
                if !(0..=MOST_ATOMS as i64).contains(&atoms) || bonds < 0 {
                    return Err(lines.fault(format!(
                        "{atoms} atoms and {bonds} bonds: 1 to {MOST_ATOMS} atoms are read"
                    )));
                }
                counts = Some((atoms as usize, bonds as usize));
            }
            (_, Some("ATOM")) => reader.atom(lines, &words)?,
            (_, Some("BOND")) => reader.bond(lines, &words)?,
            (other, Some("CTAB")) => reader.block.builder.note(&format!("lines {other}")),
            (_, Some(_)) => {}
            (other, None) => {
                return Err(lines.fault(format!("{other} stands outside of BEGIN CTAB")));
            }
        }
    }
    if let Some(open) = inside.last() {
        return Err(lines.fault(format!("END {open} is missing")));
    }
    let found = (reader.block.lines.len(), reader.block.builder.bonds.len());
    match counts {
        Some(counts) if counts == found => Ok(reader.block),
        Some((atoms, bonds)) => Err(lines.fault(format!(
            "COUNTS says {atoms} atoms and {bonds} bonds, there are {} and {}",
            found.0, found.1
        ))),
        None => Err(lines.fault("the line COUNTS is missing")),
    }
}

/// The next line behind `M  V30`, with those in which it goes on; `None` at `M  END`.
fn joined(lines: &mut Lines) -> Result<Option<String>> {
    let mut whole = String::new();
    loop {
        let line = lines.next("M  END")?;
        let Some(rest) = line.strip_prefix("M  V30") else {
            return match line.trim_end() {
                "M  END" if whole.is_empty() => Ok(None),
                _ => Err(lines.fault(format!(
                    "{line:?} stands where a line that begins with \"M  V30\" or \"M  END\" is due"
                ))),
            };
        };
        match rest.trim_end().strip_suffix('-') {
            Some(part) => whole.push_str(part),
            None => {
                whole.push_str(rest);
                return Ok(Some(whole));
            }
        }
        if whole.len() > 1 << 20 {
            return Err(lines.fault("a line goes on for more than a megabyte"));
        }
    }
}

/// Words apart by spaces; what stands in parentheses or quotes is one with what is before it.
fn words(lines: &Lines, line: &str) -> Result<Vec<String>> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut depth, mut quoted) = (0usize, false);
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| lines.fault("a parenthesis closes that is not open"))?;
            }
            _ => {}
        }
        if character.is_whitespace() && depth == 0 && !quoted {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
        } else {
            word.push(character);
        }
    }
    if depth > 0 || quoted {
        return Err(lines.fault("a parenthesis or a quotation mark is not closed"));
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

fn number(lines: &Lines, text: &str, of: &str) -> Result<i64> {
    text.parse()
        .map_err(|_| lines.fault(format!("{of} is {text:?}, no whole number")))
}

/// `CHG=1` in two.
fn option<'a>(lines: &Lines, word: &'a str) -> Result<(&'a str, &'a str)> {
    word.split_once('=').ok_or_else(|| {
        lines.fault(format!(
            "{word:?} stands where an option such as CHG=1 is due"
        ))
    })
}

struct Reader {
    block: Block,
    /// Atoms by the number that the file gives them.
    numbers: HashMap<i64, usize>,
}

impl Reader {
    /// `1 C -1.2 0.5 0 0 CHG=1`.
    fn atom(&mut self, lines: &Lines, words: &[String]) -> Result<()> {
        let [own, symbol, x, y, z, _map, options @ ..] = words else {
            return Err(
                lines.fault("an atom has a number, a symbol, three coordinates and a map number")
            );
        };
        let own = number(lines, own, "an atom's number")?;
        let at = self.block.lines.len();
        if at == MOST_ATOMS {
            return Err(lines.fault(format!(
                "a molecule of more than {MOST_ATOMS} atoms is not read"
            )));
        }
        if symbol.starts_with('[') || symbol.starts_with("NOT") {
            return Err(lines.fault(format!(
                "{symbol} is a choice of elements: a question, not a molecule"
            )));
        }
        let place = [
            lines.coordinate(x)?,
            lines.coordinate(y)?,
            lines.coordinate(z)?,
        ];
        self.block.atom(lines, symbol, place)?;
        if self.numbers.insert(own, at).is_some() {
            return Err(lines.fault(format!("there are two atoms {own}")));
        }
        for word in options {
            let (key, value) = option(lines, word)?;
            let whole = || number(lines, value, key);
            match key {
                "CHG" => self.block.charge(lines, at, whole()?)?,
                "RAD" => self.block.radical(lines, at, whole()?)?,
                "MASS" => self.block.isotope(lines, at, whole()?)?,
                "VAL" => {
                    self.block.builder.given[at] = match whole()? {
                        0 => None,
                        -1 => Some(0),
                        count @ 1..=14 => Some(count as u32),
                        other => {
                            return Err(lines.fault(format!(
                                "the valence of an atom is {other}, known are −1 to 14"
                            )));
                        }
                    };
                }
                "CFG" if whole()? == 0 => {}
                "CFG" => self.block.builder.note("parities of atoms"),
                key if LEFT_OUT.contains(&key) => {
                    self.block.builder.note(&format!("{key} of atoms"))
                }
                key => {
                    return Err(lines.fault(format!(
                        "{key} at an atom is a question or unknown: read are CHG, RAD, MASS, VAL, CFG"
                    )));
                }
            }
        }
        Ok(())
    }

    /// `1 2 3 4 CFG=1`: number, kind, two atoms.
    fn bond(&mut self, lines: &Lines, words: &[String]) -> Result<()> {
        let [_, kind, from, to, options @ ..] = words else {
            return Err(lines.fault("a bond has a number, a kind and two atoms"));
        };
        let end = |text: &str| -> Result<usize> {
            let own = number(lines, text, "an atom of a bond")?;
            let found = self.numbers.get(&own).copied();
            found.ok_or_else(|| lines.fault(format!("a bond joins atom {own}, which there is not")))
        };
        let ends = [end(from)?, end(to)?];
        self.block
            .bond(lines, number(lines, kind, "a bond's kind")?, ends)?;
        let bond = self.block.builder.bonds.len() - 1;
        for word in options {
            match option(lines, word)? {
                ("CFG", "0") => {}
                // Either side: a wavy single bond, a crossed double one.
                ("CFG", "2") => self.block.either.push(bond),
                ("CFG", "1" | "3") => self.block.builder.note(WEDGES),
                (key, _) if LEFT_OUT.contains(&key) => {
                    self.block.builder.note(&format!("{key} of bonds"));
                }
                (key, value) => {
                    return Err(lines.fault(format!(
                        "{key}={value} at a bond is a question or unknown: read is CFG, 0 to 3"
                    )));
                }
            }
        }
        Ok(())
    }
}

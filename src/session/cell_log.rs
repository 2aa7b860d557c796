//! The cells that ran, and which of them have to run again to bring lost variables back.
//!
//! A cell that ended well is kept with the variables that it binds, uses and changes, as far as its text shows:
//!
//! ```text
//! cell text ─ syntax ─▶ Effects { defines, uses, changes }
//! lost names ─ from the last cell to the first ─▶ the cells that define or change them, and what those use
//! ```
//! What a text does not show is a change behind a shared reference (a tensor variable that training moves). Such cells are
//! told apart as *mentions*: they use a variable that is brought back, and run again only when asked for.

use std::collections::{BTreeMap, BTreeSet};

use ra_ap_syntax::ast::{self, HasName};
use ra_ap_syntax::{AstNode, AstToken, SyntaxKind, SyntaxNode, SyntaxToken};

use crate::session::syntax;

/// A cell that ended well.
#[derive(Clone, Debug)]
pub(crate) struct LoggedCell {
    pub code: String,
    /// Variables that it defined and that were not there any more when it had ended.
    pub gone: BTreeSet<String>,
    effects: Effects,
}

/// What a cell does to variables, as far as its text shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Effects {
    /// Names bound by `let` at the top level.
    defines: BTreeSet<String>,
    /// Names used before the cell itself binds them; functions and types are among them.
    uses: BTreeSet<String>,
    /// Names assigned to, borrowed mutably, or on which a method is called.
    changes: BTreeSet<String>,
}

/// The cells of a session in the order in which they ran.
#[derive(Debug, Default)]
pub(crate) struct CellLog {
    cells: Vec<LoggedCell>,
    lost: BTreeSet<String>,
    /// Variables whose last definition says `mut`.
    mutable: BTreeMap<String, bool>,
}

/// What would run again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Places in [`CellLog::cells`] of the cells that define or change what is needed.
    pub cells: Vec<usize>,
    /// Places of later cells that use something of it and may have changed it unseen.
    pub mentions: Vec<usize>,
    /// Names that no cell defines.
    pub unknown: Vec<String>,
}

impl CellLog {
    /// Notes a cell that ended well, and the variables that were there then.
    pub fn ran(&mut self, code: &str, present: &BTreeSet<String>) {
        let effects = effects(code);
        for (name, mutable) in definitions(code) {
            self.lost.remove(&name);
            self.mutable.insert(name, mutable);
        }
        self.cells.push(LoggedCell {
            code: code.to_owned(),
            gone: effects.defines.difference(present).cloned().collect(),
            effects,
        });
    }

    /// Notes variables that are gone although no cell used them up.
    pub fn lost(&mut self, names: &[String]) {
        self.lost.extend(names.iter().cloned());
    }

    /// Notes variables that are there again.
    pub fn found(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            self.lost.remove(&name);
        }
    }

    /// The session was cleared: nothing of it can be asked for again.
    pub fn clear(&mut self) {
        *self = CellLog::default();
    }

    /// What is lost and has not been defined again, sorted.
    pub fn lost_names(&self) -> Vec<String> {
        self.lost.iter().cloned().collect()
    }

    /// The cells that ended well, in order.
    pub fn cells(&self) -> &[LoggedCell] {
        &self.cells
    }

    /// Which cells bring `names` back when the variables in `present` are there.
    pub fn plan(&self, names: &[String], present: &BTreeSet<String>) -> Plan {
        let mut needed: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let mut plan = Plan::default();
        for (place, cell) in self.cells.iter().enumerate().rev() {
            let effects = &cell.effects;
            let defines = |name: &&str| effects.defines.contains(*name);
            let changes = |name: &&str| {
                effects.changes.contains(*name) && self.mutable.get(*name) == Some(&true)
            };
            if needed.iter().any(|name| defines(name) || changes(name)) {
                plan.cells.push(place);
                needed.retain(|name| !defines(name));
                for name in &effects.uses {
                    let variable = self.mutable.contains_key(name);
                    if variable && !present.contains(name) {
                        needed.insert(name);
                    }
                }
            } else if effects
                .uses
                .iter()
                .any(|name| needed.contains(name.as_str()))
            {
                plan.mentions.push(place);
            }
        }
        plan.cells.reverse();
        plan.mentions.reverse();
        plan.unknown = needed.into_iter().map(str::to_owned).collect();
        plan
    }
}

impl LoggedCell {
    /// The first line that is not blank, for lists of cells.
    pub fn headline(&self) -> &str {
        self.code
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or_default()
    }
}

/// The names that a cell binds at its top level, with whether they are `mut`.
pub(crate) fn definitions(code: &str) -> Vec<(String, bool)> {
    syntax::statements(syntax::skip_commands(code))
        .into_iter()
        .filter_map(|statement| ast::LetStmt::cast(statement.node)?.pat())
        .flat_map(|pattern| bindings(pattern.syntax()))
        .collect()
}

fn bindings(node: &SyntaxNode) -> Vec<(String, bool)> {
    node.descendants()
        .filter_map(ast::IdentPat::cast)
        .filter_map(|pattern| {
            let name = pattern.name()?.text().to_string();
            Some((name, pattern.mut_token().is_some()))
        })
        .collect()
}

fn effects(code: &str) -> Effects {
    let mut found = Effects::default();
    for statement in syntax::statements(syntax::skip_commands(code)) {
        // Functions and types cannot use a cell's variables. A macro may be a statement.
        let item = ast::Item::cast(statement.node.clone());
        if item.is_some_and(|item| !matches!(item, ast::Item::MacroCall(_))) {
            continue;
        }
        let defined = ast::LetStmt::cast(statement.node.clone())
            .and_then(|statement| statement.pat())
            .map(|pattern| bindings(pattern.syntax()))
            .unwrap_or_default();
        for token in statement
            .node
            .descendants_with_tokens()
            .filter_map(|element| element.into_token())
        {
            for name in names_in(&token) {
                if !found.defines.contains(&name) {
                    found.uses.insert(name);
                }
            }
        }
        for name in statement.node.descendants().filter_map(changed) {
            if !found.defines.contains(&name) {
                found.changes.insert(name);
            }
        }
        // A name that the statement binds is not used by it, unless its value says so.
        for (name, _) in defined {
            let by_value = ast::LetStmt::cast(statement.node.clone())
                .and_then(|statement| statement.initializer())
                .is_some_and(|value| {
                    value
                        .syntax()
                        .descendants_with_tokens()
                        .filter_map(|element| element.into_token())
                        .any(|token| names_in(&token).contains(&name))
                });
            if !by_value && !found.defines.contains(&name) {
                found.uses.remove(&name);
            }
            found.defines.insert(name);
        }
    }
    found
}

/// The names that a token may stand for: an identifier that is not a field or the rest of a path, or those that a format
/// string captures.
fn names_in(token: &SyntaxToken) -> Vec<String> {
    match token.kind() {
        SyntaxKind::IDENT => {
            let before = token
                .siblings_with_tokens(ra_ap_syntax::Direction::Prev)
                .skip(1)
                .find(|element| !element.kind().is_trivia())
                .map(|element| element.kind());
            let field = matches!(before, Some(SyntaxKind::DOT | SyntaxKind::COLON2));
            let parent = token.parent().map(|parent| parent.kind());
            let within_path = parent == Some(SyntaxKind::NAME_REF)
                && token
                    .parent()
                    .is_some_and(|name| follows_dot_or_colons(&name));
            if field || within_path {
                Vec::new()
            } else {
                vec![token.text().to_owned()]
            }
        }
        SyntaxKind::STRING => {
            ast::String::cast(token.clone()).map_or_else(Vec::new, |text| captured(text.text()))
        }
        _ => Vec::new(),
    }
}

fn follows_dot_or_colons(name: &SyntaxNode) -> bool {
    let previous = |node: &SyntaxNode| {
        node.siblings_with_tokens(ra_ap_syntax::Direction::Prev)
            .skip(1)
            .find(|element| !element.kind().is_trivia())
            .map(|element| element.kind())
    };
    let marks = [SyntaxKind::DOT, SyntaxKind::COLON2];
    previous(name).is_some_and(|kind| marks.contains(&kind))
        || name
            .parent()
            .filter(|parent| parent.kind() == SyntaxKind::PATH_SEGMENT)
            .and_then(|segment| previous(&segment))
            .is_some_and(|kind| marks.contains(&kind))
}

/// `a` and `b` of `"{a} and {b:?}"`.
fn captured(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for piece in text.split('{').skip(1) {
        let end = piece
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(piece.len());
        let starts_well = piece.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if starts_well && piece[end..].starts_with(['}', ':']) {
            names.push(piece[..end].to_owned());
        }
    }
    names
}

/// The variable that an expression changes, if it is one that can.
fn changed(node: SyntaxNode) -> Option<String> {
    let target = if let Some(assignment) = ast::BinExpr::cast(node.clone()) {
        matches!(assignment.op_kind(), Some(ast::BinaryOp::Assignment { .. }))
            .then(|| assignment.lhs())
            .flatten()
    } else if let Some(reference) = ast::RefExpr::cast(node.clone()) {
        reference.mut_token().and_then(|_| reference.expr())
    } else {
        ast::MethodCallExpr::cast(node).and_then(|call| call.receiver())
    };
    root(target?)
}

/// `a` of `a.b[0].c`.
fn root(mut expression: ast::Expr) -> Option<String> {
    loop {
        expression = match expression {
            ast::Expr::PathExpr(path) => {
                let path = path.path()?;
                return path
                    .qualifier()
                    .is_none()
                    .then(|| path.segment().map(|s| s.syntax().text().to_string()))
                    .flatten();
            }
            ast::Expr::FieldExpr(field) => field.expr()?,
            ast::Expr::IndexExpr(index) => index.base()?,
            ast::Expr::ParenExpr(inner) => inner.expr()?,
            ast::Expr::PrefixExpr(inner) => inner.expr()?,
            ast::Expr::MethodCallExpr(call) => call.receiver()?,
            ast::Expr::TryExpr(inner) => inner.expr()?,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(cells: &[&str]) -> CellLog {
        let mut log = CellLog::default();
        for cell in cells {
            log.ran(cell, &BTreeSet::new());
        }
        log
    }

    fn plan(cells: &[&str], lost: &[&str]) -> Vec<usize> {
        let lost: Vec<String> = lost.iter().map(|&name| name.to_owned()).collect();
        log(cells).plan(&lost, &BTreeSet::new()).cells
    }

    #[test]
    fn definitions_run_again_with_what_they_depend_on() {
        let cells = [
            "let a = 1;",
            "let b = 2;",
            "let c = a + 1;",
            "println!(\"{b}\");",
            "let d = format!(\"{c:?}\");",
        ];
        assert_eq!(plan(&cells, &["d"]), [0, 2, 4]);
        assert_eq!(plan(&cells, &["b"]), [1]);
    }

    #[test]
    fn changes_run_again_if_the_variable_is_mutable() {
        let cells = [
            "let mut v = vec![1];",
            "v.push(2);",
            "for i in 0..3 { v[0] += i; }",
            "println!(\"{}\", v.len());",
            "let w = vec![1]; w.len()",
            "fill(&mut v);",
        ];
        assert_eq!(plan(&cells, &["v"]), [0, 1, 2, 5]);
        assert_eq!(plan(&cells, &["w"]), [4]);
    }

    #[test]
    fn the_last_definition_counts_and_shadowing_reaches_back() {
        let cells = ["let x = 1;", "let x = 2;", "let y = 3;", "let y = y + x;"];
        assert_eq!(plan(&cells, &["x"]), [1]);
        assert_eq!(plan(&cells, &["y"]), [1, 2, 3]);
    }

    #[test]
    fn what_is_still_there_is_not_made_again() {
        let log = log(&["let a = 1;", "let b = a;"]);
        let present = BTreeSet::from(["a".to_owned()]);
        assert_eq!(log.plan(&["b".to_owned()], &present).cells, [1]);
    }

    #[test]
    fn names_of_fields_and_paths_are_not_uses() {
        let found = effects("let t = s.size + Size::size(&u) + std::mem::size_of::<T>();");
        let uses: Vec<&str> = found.uses.iter().map(String::as_str).collect();
        assert_eq!(uses, ["Size", "T", "s", "std", "u"]);
        assert!(found.changes.is_empty(), "{found:?}");
    }

    #[test]
    fn later_cells_that_use_a_variable_are_told_apart() {
        let log = log(&["let model = make();", "train(&model);", "let other = 1;"]);
        let plan = log.plan(&["model".to_owned()], &BTreeSet::new());
        assert_eq!((plan.cells, plan.mentions), (vec![0], vec![1]));
    }

    #[test]
    fn a_name_defined_again_is_lost_no_more() {
        let mut log = log(&["let a = 1;"]);
        log.lost(&["a".to_owned(), "b".to_owned()]);
        log.ran("let a = 2;", &BTreeSet::from(["a".to_owned()]));
        assert_eq!(log.lost_names(), ["b"]);
        let plan = log.plan(&log.lost_names(), &BTreeSet::new());
        assert_eq!((plan.cells.len(), plan.unknown), (0, vec!["b".to_owned()]));
    }
}

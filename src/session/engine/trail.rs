//! Has errors note the places that they pass inside of functions and closures of cells.
//!
//! ```text
//! std::fs::read(path)?      as  ::glassbox_prelude::trail::Tried::at(std::fs::read(path))?
//! return Err(e)             as  return { ::glassbox_prelude::trail::made(); Err(e) }
//! fn load(…) -> Result<…> { as  fn load(…) -> Result<…> { ::glassbox_prelude::trail::entered();
//! ```
//! What is added stands between the marks of [`super::sites`], so that places in the user's text can be found again. A `?` of the cell itself
//! says where it is anyway. Where the compiler objects to a line that was written in this way, the cell is compiled as it stands, without
//! trails. A `?` in the arguments of a macro is not seen here.

use std::collections::BTreeMap;
use std::ops::Range;

use ra_ap_syntax::ast::{self, HasArgList, HasAttrs, HasName};
use ra_ap_syntax::{AstNode, SyntaxNode, TextSize};

use super::sites::MARKS;
use super::source::{FUNCTION, Source};
use crate::session::nesting::parse;
use crate::session::reports::Diagnostic;

/// What stands before a value that `?` is applied to.
pub(crate) const TRIED: &str = "::glassbox_prelude::trail::Tried::at(";
/// What stands before an error that is made.
pub(crate) const MADE: &str = "::glassbox_prelude::trail::made()";
const ENTERED: &str = "::glassbox_prelude::trail::entered();";

/// Whether cells note where errors pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trails {
    off: bool,
}

impl Trails {
    /// Adds what notes the places.
    pub(super) fn write(self, source: &mut Source) {
        if !self.off && source.function.is_some() {
            write(&mut source.text);
        }
    }

    /// Learns from errors of the compiler; says whether the cell is to be written without because of them.
    pub(super) fn learn(&mut self, source: &Source, errors: &[Diagnostic]) -> bool {
        if self.off || !source.text.contains("::glassbox_prelude::trail::") {
            return false;
        }
        let lines: Vec<&str> = source.text.lines().collect();
        let noted = |line: usize| {
            let text = line.checked_sub(1).and_then(|at| lines.get(at));
            text.is_some_and(|text| text.contains("::glassbox_prelude::trail::"))
        };
        self.off = errors.iter().any(|error| {
            let mut lines = error.other_lines().chain(error.primary_line());
            error.primary_line().is_none() || lines.any(noted)
        });
        self.off
    }
}

fn write(text: &mut String) {
    if !["?", "Err(", "bail!"]
        .iter()
        .any(|word| text.contains(word))
    {
        return;
    }
    let parsed = parse(text);
    if !parsed.errors().is_empty() {
        return;
    }
    let mut additions = Additions {
        taken: between_marks(text),
        all: BTreeMap::new(),
    };
    let own_bail = text.contains("macro_rules! bail");
    for node in parsed.syntax_node().descendants() {
        if let Some(question) = ast::TryExpr::cast(node.clone()) {
            if let Some(value) = question.expr()
                && is_inside_a_function(&node)
            {
                additions.around(value.syntax(), TRIED, ")");
            }
        } else if makes_error(&node, own_bail)
            && leaves_its_function(&node)
            && is_inside_a_function(&node)
        {
            additions.around(&node, &format!("{{ {MADE};"), " }");
        } else if let Some(function) = ast::Fn::cast(node) {
            additions.enter(&function);
        }
    }
    additions.write(text);
}

/// What is added, by the byte before which it stands.
struct Additions {
    /// Where something stands between marks already.
    taken: Vec<Range<usize>>,
    all: BTreeMap<usize, String>,
}

impl Additions {
    fn around(&mut self, node: &SyntaxNode, before: &str, behind: &str) {
        let range = node.text_range();
        let (start, end) = (usize::from(range.start()), usize::from(range.end()));
        if self.taken.iter().any(|taken| taken.contains(&start)) {
            return;
        }
        // What is further out comes first, as nodes do; nothing ends where another begins.
        self.add(start, before);
        self.add(end, behind);
    }

    fn add(&mut self, at: usize, text: &str) {
        let before = self.all.entry(at).or_default();
        *before += &format!("{}{text}{}", MARKS.0, MARKS.1);
    }

    fn enter(&mut self, function: &ast::Fn) {
        let fails = function
            .ret_type()
            .is_some_and(|ty| ty.syntax().text().to_string().contains("Result"));
        if !fails || !is_traced(function) {
            return;
        }
        let Some(list) = function.body().and_then(|body| body.stmt_list()) else {
            return;
        };
        let inner = list.attrs().next().is_some();
        if let Some(brace) = list.l_curly_token().filter(|_| !inner) {
            self.add(usize::from(brace.text_range().end()), ENTERED);
        }
    }

    fn write(self, text: &mut String) {
        for (at, added) in self.all.into_iter().rev() {
            text.insert_str(at, &added);
        }
    }
}

fn between_marks(text: &str) -> Vec<Range<usize>> {
    let starts = text.match_indices(MARKS.0).map(|(at, _)| at);
    let ranges = starts.map(|start| {
        let end = text[start..].find(MARKS.1);
        start..end.map_or(text.len(), |end| start + end)
    });
    ranges.collect()
}

fn is_traced(function: &ast::Fn) -> bool {
    let of_a_cell = function
        .name()
        .is_some_and(|name| name.text().starts_with(FUNCTION));
    function.const_token().is_none() && !of_a_cell
}

/// Whether an error there goes to the code that called the function or closure, and not to the cell at once.
fn is_inside_a_function(node: &SyntaxNode) -> bool {
    for outer in node.ancestors().skip(1) {
        if let Some(function) = ast::Fn::cast(outer.clone()) {
            return is_traced(&function);
        }
        if let Some(closure) = ast::ClosureExpr::cast(outer.clone()) {
            let result = closure.ret_type().map(|ty| ty.syntax().text().to_string());
            return !result.is_some_and(|ty| ty.contains("::glassbox_prelude::cell::Failed"));
        }
        if let Some(block) = ast::BlockExpr::cast(outer.clone()) {
            if block.async_token().is_some() {
                // The one around a cell that awaits is its own.
                let call = block
                    .syntax()
                    .ancestors()
                    .nth(2)
                    .and_then(ast::CallExpr::cast);
                let callee = call.and_then(|call| call.expr());
                let own = callee.is_some_and(|callee| {
                    callee.syntax().text()
                        == format!("::{}::block_on", super::dependencies::RUNTIME).as_str()
                });
                return !own;
            }
            if block.const_token().is_some() || block.try_block_modifier().is_some() {
                return false;
            }
        }
        if ast::Const::can_cast(outer.kind()) || ast::Static::can_cast(outer.kind()) {
            return false;
        }
    }
    false
}

/// `Err(…)`, `bail!(…)`
fn makes_error(node: &SyntaxNode, own_bail: bool) -> bool {
    if let Some(call) = ast::CallExpr::cast(node.clone()) {
        let Some(ast::Expr::PathExpr(path)) = call.expr() else {
            return false;
        };
        return matches!(
            path.syntax().text().to_string().as_str(),
            "Err" | "Result::Err"
        );
    }
    let call = ast::MacroExpr::cast(node.clone()).and_then(|call| call.macro_call());
    let name = call.and_then(|call| call.path()?.segment()?.name_ref());
    name.is_some_and(|name| name.text() == "bail" && !own_bail)
}

/// Whether a value is what its function or closure gives back.
fn leaves_its_function(node: &SyntaxNode) -> bool {
    // It returns by itself.
    if ast::MacroExpr::can_cast(node.kind()) {
        return true;
    }
    let mut node = node.clone();
    while let Some(outer) = node.parent() {
        let kind = outer.kind();
        if ast::ReturnExpr::can_cast(kind)
            || ast::ClosureExpr::can_cast(kind)
            || ast::Fn::can_cast(kind)
        {
            return true;
        }
        if let Some(list) = ast::StmtList::cast(outer.clone()) {
            let tail = list.tail_expr();
            if tail.is_none_or(|tail| *tail.syntax() != node) {
                return false;
            }
        } else if let Some(choice) = ast::IfExpr::cast(outer.clone()) {
            if choice.condition().is_some_and(|it| *it.syntax() == node) {
                return false;
            }
        } else if let Some(arm) = ast::MatchArm::cast(outer.clone()) {
            if arm.expr().is_none_or(|value| *value.syntax() != node) {
                return false;
            }
        } else if let Some(choice) = ast::MatchExpr::cast(outer.clone()) {
            if choice.expr().is_some_and(|it| *it.syntax() == node) {
                return false;
            }
        } else if !(ast::BlockExpr::can_cast(kind)
            || ast::MatchArmList::can_cast(kind)
            || ast::ParenExpr::can_cast(kind))
        {
            return false;
        }
        node = outer;
    }
    false
}

/// What a place that was noted is about.
pub(crate) struct Noted {
    /// Its bytes in the generated source: the call that failed, with its `?`, or the error that was made.
    pub range: Range<usize>,
    /// The words of the value that `?` was applied to: what was called is among them. None for an error that was made there.
    pub called: Vec<String>,
    /// The function or closure that it stands in, if that has a name.
    pub function: Option<String>,
    /// The names of what that function was given: it may call those.
    pub given: Vec<String>,
}

/// What stands at a byte of a generated source.
pub(crate) fn noted(source: &SyntaxNode, at: usize) -> Option<Noted> {
    let at = TextSize::try_from(at).ok()?;
    let token = source.token_at_offset(at).right_biased()?;
    let call = token
        .parent_ancestors()
        .filter(|node| node.text_range().start() == at)
        .filter_map(ast::CallExpr::cast)
        .find(|call| {
            let text = call.syntax().text().to_string();
            text.starts_with(TRIED) || text.starts_with(MADE)
        })?;
    let (function, given) = surroundings(call.syntax());
    let (node, called) = match call.arg_list()?.args().next() {
        Some(value) => (last_call(&value), named(value.syntax())),
        // { made(); Err(…) }
        None => {
            let list = call.syntax().ancestors().find_map(ast::StmtList::cast)?;
            (list.tail_expr()?.syntax().text_range(), Vec::new())
        }
    };
    // Its question mark stands behind what was added.
    let question = call.syntax().parent().and_then(ast::TryExpr::cast);
    let end = question.map_or(node.end(), |it| it.syntax().text_range().end());
    Some(Noted {
        range: node.start().into()..end.into(),
        called,
        function,
        given,
    })
}

/// The words of what the cell's own `?` was applied to, which stands at a byte of a generated source.
pub(crate) fn called_at(source: &SyntaxNode, at: usize) -> Option<Vec<String>> {
    let at = TextSize::try_from(at).ok()?;
    let token = source.token_at_offset(at).right_biased()?;
    let questions = token.parent_ancestors().filter_map(ast::TryExpr::cast);
    let outermost = questions
        .filter(|node| node.syntax().text_range().start() == at)
        .last();
    Some(named(outermost?.expr()?.syntax()))
}

/// The last call in a chain of them.
fn last_call(value: &ast::Expr) -> ra_ap_syntax::TextRange {
    let whole = value.syntax().text_range();
    match value {
        ast::Expr::MethodCallExpr(call) => call.name_ref().map_or(whole, |name| {
            ra_ap_syntax::TextRange::new(name.syntax().text_range().start(), whole.end())
        }),
        _ => whole,
    }
}

/// The names in a piece of code, and those by which the standard library calls what it names.
fn named(node: &SyntaxNode) -> Vec<String> {
    let mut names: Vec<String> = super::items::words(&node.text().to_string())
        .map(str::to_owned)
        .collect();
    for (said, called) in [
        ("parse", "from_str"),
        ("try_into", "try_from"),
        ("into", "from"),
        ("collect", "next"),
        ("collect", "from_iter"),
        ("sum", "next"),
        ("to_string", "fmt"),
        ("write", "fmt"),
        ("writeln", "fmt"),
    ] {
        if names.iter().any(|name| name == said) {
            names.push(called.to_owned());
        }
    }
    names
}

/// The name of the function or closure around a node, and those of its parameters.
fn surroundings(node: &SyntaxNode) -> (Option<String>, Vec<String>) {
    for outer in node.ancestors().skip(1) {
        let names = |list: Option<ast::ParamList>| -> Vec<String> {
            let list = list.into_iter().flat_map(|list| list.params());
            let patterns = list.filter_map(|parameter| parameter.pat());
            let names =
                patterns.flat_map(|pattern| pattern.syntax().descendants().collect::<Vec<_>>());
            let names = names.filter_map(ast::IdentPat::cast);
            names
                .filter_map(|name| Some(name.name()?.text().to_string()))
                .collect()
        };
        if let Some(function) = ast::Fn::cast(outer.clone()) {
            let name = function.name().map(|name| name.text().to_string());
            return (name, names(function.param_list()));
        }
        if let Some(closure) = ast::ClosureExpr::cast(outer.clone()) {
            let bound = outer.parent().and_then(ast::LetStmt::cast);
            let name = bound.and_then(|bound| match bound.pat()? {
                ast::Pat::IdentPat(name) => Some(name.name()?.text().to_string()),
                _ => None,
            });
            return (name, names(closure.param_list()));
        }
    }
    (None, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::super::sites::without_additions;
    use super::*;

    fn written(code: &str) -> String {
        let mut text = code.to_owned();
        write(&mut text);
        assert_eq!(
            without_additions(&text).0,
            code,
            "it can be taken away again"
        );
        text.replace(MARKS.0, "").replace(MARKS.1, "")
    }

    #[test]
    fn questions_and_errors_of_functions_are_noted_and_the_cells_own_are_not() {
        let tried = |value: &str| format!("{TRIED}{value})?");
        assert_eq!(
            written("fn f() -> Result<u8, E> { a(b()?)?.c()?; Ok(1) }"),
            format!(
                "fn f() -> Result<u8, E> {{{ENTERED} {}; Ok(1) }}",
                tried(&format!("{}.c()", tried(&format!("a({})", tried("b()")))))
            )
        );
        let made = format!("{{ {MADE};Err(x) }}");
        assert_eq!(
            written(
                "fn f() -> Result<u8, E> { if y { return Err(x); } match z { 1 => Err(x), _ => { Err(x) } } }"
            ),
            format!(
                "fn f() -> Result<u8, E> {{{ENTERED} if y {{ return {made}; }} match z {{ 1 => {made}, _ => {{ {made} }} }} }}"
            )
        );
        for alone in [
            "fn f() -> Option<u8> { g(Err(x)); None }",
            "pub extern \"C\" fn run_user_code_1() { run(Box::new(|| -> Result<(), ::glassbox_prelude::cell::Failed> { f()?; Ok(()) })) }",
            "const fn f() -> Result<u8, u8> { Err(1) }",
            "fn f() { if x == Err(1) {} let e = Err(2); }",
            "macro_rules! m { () => { f()? } }",
        ] {
            assert_eq!(written(alone), alone);
        }
        let closure = written("let f = |x| g(x)?;");
        assert_eq!(closure, "let f = |x| g(x)?;", "no file of items");
        let closure = written("fn main() { let f = |x: u8| { g(x)?; Err(x) }; }");
        assert!(
            closure.contains(&tried("g(x)")) && closure.contains(MADE),
            "{closure}"
        );
    }
}

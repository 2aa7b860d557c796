//! Calls in a cell that have a value show itself in the way of crates made for evcxr, put between two marks of the prelude's.
//!
//! ```text
//! page.evcxr_display();  ──▶  ({let shown = by_hand(); page.evcxr_display()});
//! ```
//! Such a call prints lines that front ends understand, and so may any text that a cell prints: what stands between the marks is shown, the
//! same lines elsewhere are text. What is added stands between [`MARKS`], on the lines that the user wrote.

use ra_ap_syntax::ast::{self, HasArgList as _};
use ra_ap_syntax::{AstNode as _, SyntaxNode};

use super::sites::MARKS;
use crate::session::nesting::parse;

/// Methods that print for front ends: of a value, of plotly's, and of evcxr's own runtime.
const METHODS: [&str; 3] = ["evcxr_display", "notebook_display", "lab_display"];
/// evcxr's runtime: `mime_type("text/html").text("…")`.
const RUNTIME: &str = "mime_type";

/// Whether a text may have such calls.
pub(super) fn may_show(code: &str) -> bool {
    METHODS
        .iter()
        .chain([&RUNTIME])
        .any(|name| code.contains(name))
}

/// The items of a crate, or statements within `fn f() {…}`, with such calls between marks.
pub(super) fn marked(code: &str) -> String {
    let file = parse(code).syntax_node();
    let calls = file.descendants().filter(shows);
    let mut edits: Vec<(usize, bool)> = Vec::new();
    for call in calls {
        let range = call.text_range();
        edits.push((range.start().into(), true));
        edits.push((range.end().into(), false));
    }
    // Calls within calls begin together: the order of equal marks does not matter.
    edits.sort();
    let (open, close) = MARKS;
    let mut text = String::with_capacity(code.len() + 100 * edits.len());
    let mut done = 0;
    for (at, begins) in edits {
        text += &code[done..at];
        text += open;
        text += match begins {
            true => "({let _shown = ::glassbox_prelude::cell::by_hand();",
            false => "})",
        };
        text += close;
        done = at;
    }
    text + &code[done..]
}

fn shows(node: &SyntaxNode) -> bool {
    if let Some(call) = ast::MethodCallExpr::cast(node.clone()) {
        let Some(name) = call.name_ref() else {
            return false;
        };
        let name = name.text().to_string();
        let from_runtime = || {
            let receiver = call
                .receiver()
                .and_then(|receiver| ast::CallExpr::cast(receiver.syntax().clone()));
            receiver.is_some_and(|receiver| called(&receiver).as_deref() == Some(RUNTIME))
        };
        return METHODS.contains(&name.as_str())
            || ["text", "bytes"].contains(&name.as_str()) && from_runtime();
    }
    let call = ast::CallExpr::cast(node.clone());
    call.and_then(|call| called(&call))
        .is_some_and(|name| METHODS.contains(&name.as_str()))
}

/// The last name of the path that is called.
fn called(call: &ast::CallExpr) -> Option<String> {
    call.arg_list()?;
    let ast::Expr::PathExpr(path) = call.expr()? else {
        return None;
    };
    Some(path.path()?.segment()?.name_ref()?.text().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::engine::without_additions;

    #[test]
    fn calls_are_marked_and_the_text_can_be_had_back() {
        let code = "fn f() {\n    a.b(1).evcxr_display();\n    for p in v { Page::evcxr_display(&p) }\n                        evcxr_runtime::mime_type(\"a\").text(\"b\"); c.text(\"d\"); \"evcxr_display()\";\n}\n                    impl P { fn evcxr_display(&self) { self.0.evcxr_display() } }";
        let text = marked(code);
        assert_eq!(text.matches("by_hand()").count(), 4, "{text}");
        assert_eq!(text.lines().count(), code.lines().count());
        assert_eq!(without_additions(&text).0, code);
        assert!(parse(&text).errors().is_empty(), "{text}");
        assert!(may_show(code) && !may_show("fn f() {}"));
    }
}

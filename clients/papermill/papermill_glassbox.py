"""Parameters for Rust notebooks in papermill: `papermill in.ipynb out.ipynb -p steps 50`.

papermill writes parameters in the notebook's language and knows Rust only once this module is loaded, which papermill
does by itself where the package is installed.

Values become plain literals, so an integer is an `i32` unless the notebook says otherwise where it uses it. The types that
the cell tagged `parameters` declares are not seen here; `glassbox run -p` does see them.
"""

import math
import re

from papermill.engines import NBClientEngine
from papermill.models import Parameter
from papermill.translators import Translator, papermill_translators

# `let`, perhaps `mut`, a name, perhaps a type, a value, perhaps a comment: one to a line.
DECLARATION = re.compile(r"\s*let\s+(?:mut\s+)?(\w+)\s*(?::\s*([^=]+?))?\s*=\s*(.+?)\s*;\s*(?://\s*(.*?))?\s*$")


class RustTranslator(Translator):
    """Python's values as Rust's literals."""

    @classmethod
    def translate_none(cls, val):
        raise ValueError("a Rust notebook has no place for a null parameter: leave it out")

    @classmethod
    def translate_int(cls, val):
        if -(2**31) <= val < 2**31:
            return f"{val}"
        return f"{val}i64" if -(2**63) <= val < 2**63 else f"{val}i128"

    @classmethod
    def translate_float(cls, val):
        if math.isnan(val):
            return "f64::NAN"
        if math.isinf(val):
            return "f64::INFINITY" if val > 0 else "f64::NEG_INFINITY"
        text = repr(val)
        return text if "." in text or "e" in text else text + ".0"

    @classmethod
    def translate_escaped_str(cls, str_val):
        escaped = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
        printable = (c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in str(str_val))
        return '"' + "".join(escaped.get(raw, c) for raw, c in zip(str(str_val), printable)) + '"'

    @classmethod
    def translate_list(cls, val):
        return f"vec![{', '.join(cls.translate(item) for item in val)}]"

    @classmethod
    def translate_dict(cls, val):
        raise ValueError("a Rust notebook takes no dictionaries as parameters: give their values one by one")

    @classmethod
    def comment(cls, cmt_str):
        return f"// {cmt_str}".strip()

    @classmethod
    def assign(cls, name, str_val):
        return f"let {name} = {str_val};"

    @classmethod
    def inspect(cls, parameters_cell):
        """The parameters for `papermill --help-notebook`."""
        found = map(DECLARATION.match, parameters_cell["source"].splitlines())
        return [Parameter(m[1], m[2] or "None", m[3], m[4] or "") for m in found if m]


class Engine(NBClientEngine):
    """papermill's own engine: `--engine glassbox` is the default under another name."""


for name in ("rust", "Rust"):
    papermill_translators.register(name, RustTranslator)

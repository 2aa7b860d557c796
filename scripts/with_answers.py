#!/usr/bin/env python3
"""A notebook for the teacher: every hidden answer as a cell of its own, right behind its exercise, so that running the notebook tests them.

    scripts/with_answers.py notebooks/13_inside.ipynb /tmp/teacher.ipynb && glassbox run /tmp/teacher.ipynb

An answer is a block of Rust (```rust) in a text cell, as in the course: inside <details> a reader sees it when he opens it. The notebook's
own text and code stay as they are; tests/notebook_support does the same for the notebooks of the course.
"""

import json
import re
import sys
from pathlib import Path


def with_answers(cells):
    number = 0
    for cell in cells:
        yield cell
        if cell["cell_type"] == "markdown":
            for answer in re.findall(r"^```rust\n(.*?)^```", "".join(cell["source"]), re.MULTILINE | re.DOTALL):
                number += 1
                yield {
                    "cell_type": "code", "id": f"answer-{number}", "metadata": {},
                    "execution_count": None, "outputs": [], "source": answer,
                }


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = map(Path, sys.argv[1:])
    if target.exists() and target.samefile(source):
        sys.exit(f"{target} is the notebook itself: give another place")
    notebook = json.loads(source.read_text())
    before = len(notebook["cells"])
    notebook["cells"] = list(with_answers(notebook["cells"]))
    if len(notebook["cells"]) == before:
        sys.exit(f"{source}: no answer found; an answer is a block that begins with ```rust in a text cell")
    target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    print(f"{target}: {len(notebook['cells']) - before} answers")


if __name__ == "__main__":
    main()

"""Renders chat templates as transformers does, for `prelude/tests/chat`: `python make.py FOLDER…`.

Each `FOLDER/*.jinja` is rendered for every conversation below with transformers' own `apply_chat_template`; what comes out, or the
fact that the template refuses, is written to `FOLDER/expected.json`. `strftime_now("%Y")` comes as `⟦%Y⟧`, for the test to fill in.
Needs transformers 4.57.6, tokenizers 0.22.2 and jinja2 (see scripts/peer/requirements.txt).
"""

import json
import pathlib
import sys

import transformers.utils.chat_template_utils as templates
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast


class Now:
    @staticmethod
    def now(*_):
        return Now()

    def strftime(self, form):
        return f"⟦{form}⟧"


templates.datetime = Now

SPECIAL = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "additional_special_tokens": ["<extra>"],
}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The weather <now> & "here" – é',
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "A town's name", "enum": ["Paris", "Zürich"]},
                "days": {"type": "array", "items": {"type": "integer"}, "default": [1, 2]},
                "exact": {"type": ["boolean", "null"], "default": None},
                "scale": {"type": "number", "default": 1.0, "minimum": 1e-07},
            },
            "required": ["city"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "The time.", "parameters": {"type": "object", "properties": {}}},
}

user = lambda content: {"role": "user", "content": content}
assistant = lambda content, **more: {"role": "assistant", "content": content, **more}
system = lambda content: {"role": "system", "content": content}


def call(arguments, name="get_weather", id="abcdefghi"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(content, **more):
    return {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": content, **more}


CONVERSATIONS = {
    "one_turn": dict(messages=[user("What is this?")], add_generation_prompt=True),
    "one_turn_closed": dict(messages=[user("What is this?")], add_generation_prompt=False),
    "system_and_three_turns": dict(
        messages=[
            system("You are terse. <b>Don't</b> & \"quote\""),
            user("Hello\n"),
            assistant("  Hé, 你好 🙂 \n"),
            user(" and\tnow? "),
        ],
        add_generation_prompt=True,
    ),
    "ends_with_the_model": dict(messages=[user("Say A."), assistant("A")], add_generation_prompt=False),
    "thoughts": dict(
        messages=[
            user("2+2?"),
            assistant("<think>\nIt is four.\n</think>\n\n4"),
            user("3+3?"),
            assistant("6", reasoning_content="Six.\n"),
            user("4+4?"),
        ],
        add_generation_prompt=True,
    ),
    "without_thinking": dict(messages=[user("2+2?")], add_generation_prompt=True, variables={"enable_thinking": False}),
    "parts": dict(
        messages=[
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "A star."}]},
            {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
        ],
        add_generation_prompt=True,
    ),
    "tools": dict(
        messages=[system("Help."), user("Weather in Zürich?")], tools=[WEATHER, CLOCK], add_generation_prompt=True
    ),
    "tool_called": dict(
        messages=[
            user("Weather in Zürich?"),
            assistant("", tool_calls=[call({"city": "Zürich", "days": [1], "exact": True, "scale": 1.5, "more": None})]),
            tool('{"sky": "grey"}'),
            assistant("Grey."),
            user("And the time?"),
        ],
        tools=[WEATHER, CLOCK],
        add_generation_prompt=True,
    ),
    "tool_called_with_text": dict(
        messages=[
            user("Weather?"),
            assistant(None, tool_calls=[call('{"city": "Paris"}'), call("{}", name="clock", id="bcdefghij")]),
            tool("sunny"),
            tool("noon", name="clock", tool_call_id="bcdefghij"),
        ],
        tools=[WEATHER],
        add_generation_prompt=True,
    ),
    "documents": dict(
        messages=[user("Who?")],
        documents=[{"title": "One", "text": "A <text>."}, {"title": "Zwei", "text": "Ein „Text“."}],
        add_generation_prompt=True,
    ),
    "wrong_order": dict(messages=[assistant("A"), user("B"), user("C")], add_generation_prompt=True),
    "none": dict(messages=[], add_generation_prompt=True),
}


def render(template, case):
    model = models.WordLevel({"<unk>": 0}, unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **SPECIAL)
    try:
        # `apply_chat_template` looks at the first message before it renders.
        (text,), _ = templates.render_jinja_template(
            [json.loads(json.dumps(case["messages"]))],
            tools=case.get("tools"),
            documents=case.get("documents"),
            chat_template=template,
            add_generation_prompt=case["add_generation_prompt"],
            **tokenizer.special_tokens_map,
            **case.get("variables", {}),
        )
        return {"text": text}
    except Exception as error:  # Whatever the template runs into.
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    for folder in map(pathlib.Path, sys.argv[1:]):
        found = {
            path.name: {name: render(path.read_text(), case) for name, case in CONVERSATIONS.items()}
            for path in sorted(folder.glob("*.jinja"))
        }
        whole = {"special_tokens": SPECIAL, "conversations": CONVERSATIONS, "templates": found}
        (folder / "expected.json").write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""jupyter_kernel_test's suite for the Glassbox kernel, and stricter tests of our own.

Run by tests/kernel_python.rs; by hand:  KERNEL_NAME=glassbox python kernel_conformance.py -v
"""

import os
import platform
import time
import unittest
from queue import Empty

import jupyter_kernel_test as jkt
from jupyter_kernel_test.msgspec_v5 import validate_message

KERNEL = os.environ.get("KERNEL_NAME", "glassbox")
# The first cell may wait for the prelude to be built.
jkt.TIMEOUT = int(os.environ.get("KERNEL_TIMEOUT", "60"))
COLD = int(os.environ.get("KERNEL_COLD_TIMEOUT", "1800"))


def warm_up(kc):
    """Waits for the session, so that the suite's short time-outs measure cells."""
    kc.execute_interactive("1", timeout=COLD, output_hook=lambda message: None)


class StockSuite(jkt.KernelTests):
    """What the Jupyter project tests of every kernel."""

    kernel_name = KERNEL
    language_name = "rust"
    file_extension = ".rs"
    code_hello_world = 'println!("hello, world");'
    code_stderr = 'eprintln!("oops on stderr");'
    completion_samples = [
        {"text": "std::collections::HashM", "matches": {"HashMap"}},
        {"text": "let v = vec![1]; v.le"},
        {"text": "String::fr"},
    ]
    complete_code_samples = [
        "1 + 1",
        "let x = 5;",
        "fn f(a: i32) -> i32 { a }",
        "struct P { x: i32 }\nlet p = P { x: 1 };",
        "// only a comment",
        'println!("{}", "}");',
        ":vars",
    ]
    incomplete_code_samples = [
        "fn f(a: i32) -> i32 {",
        "let x = (1,",
        "if true {\n  1",
        'let s = "abc',
        "/* open",
        "vec![1, 2,",
        "let y =",
        "match 1 {",
    ]
    invalid_code_samples = ["let = = 3;", "fn f() { ) }", "let x = );"]
    code_page_something = ":doc Vec"
    code_generate_error = 'let bad: i32 = "not a number";'
    code_execute_result = [
        {"code": "1 + 1", "result": "2"},
        {"code": '"a".to_string() + "b"', "result": '"ab"'},
        {"code": "vec![1, 2, 3].iter().map(|x| x * x).collect::<Vec<i32>>()", "result": "[1, 4, 9]"},
        {"code": 'glassbox_prelude::display::MimeBundle::text("hi").with_html("<b>hi</b>")', "mime": "text/html"},
    ]
    code_display_data = [
        {
            "code": 'glassbox_prelude::display::display(&glassbox_prelude::display::MimeBundle::text("dot")'
            '.with_svg("<svg xmlns=\'http://www.w3.org/2000/svg\' width=\'10\' height=\'10\'/>"));',
            "mime": "image/svg+xml",
        },
    ]
    supported_history_operations = ("tail", "range", "search")
    code_history_pattern = "1?+?1"
    code_inspect_sample = "String::from_utf8"
    code_clear_output = "glassbox_prelude::display::clear_output(true);"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        warm_up(cls.kc)


class Stricter(jkt.KernelTests):
    """What the suite does not look at."""

    kernel_name = KERNEL

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        warm_up(cls.kc)

    def run_cell(self, code, timeout=120, **options):
        self.flush_channels()
        return self.collect(self.kc.execute(code, **options), timeout)

    def collect(self, message_id, timeout=120):
        """The content of the reply, and the outputs up to idle."""
        outputs, reply, idle = [], None, False
        end = time.time() + timeout
        while (reply is None or not idle) and time.time() < end:
            try:
                message = self.kc.get_shell_msg(timeout=0.05)
                if message["parent_header"].get("msg_id") == message_id:
                    reply = message
            except Empty:
                pass
            try:
                while True:
                    message = self.kc.get_iopub_msg(timeout=0.05)
                    if message["parent_header"].get("msg_id") != message_id:
                        continue
                    if message["msg_type"] == "status":
                        idle = idle or message["content"]["execution_state"] == "idle"
                    elif message["msg_type"] != "execute_input":
                        outputs.append(message)
            except Empty:
                pass
        if reply is None:
            # Later tests shall not be dragged down.
            self.km.restart_kernel(now=True)
            self.kc.wait_for_ready(timeout=300)
            self.fail(f"no execute_reply in {timeout} s (kernel restarted)")
        return reply["content"], outputs

    @staticmethod
    def text(outputs, name="stdout"):
        streams = (m["content"] for m in outputs if m["msg_type"] == "stream")
        return "".join(c["text"] for c in streams if c["name"] == name)

    def wait_for_text(self, message_id, text, timeout=120):
        end = time.time() + timeout
        while time.time() < end:
            try:
                message = self.kc.get_iopub_msg(timeout=1)
            except Empty:
                continue
            ours = message["parent_header"].get("msg_id") == message_id
            if ours and message["msg_type"] == "stream" and text in message["content"]["text"]:
                return
        self.fail(f"the cell did not print {text!r}")

    def test_first_execution_count_is_1(self):
        self.km.restart_kernel(now=True)
        self.kc.wait_for_ready(timeout=300)
        reply, _ = self.run_cell("1+1")
        self.assertEqual(reply["execution_count"], 1)

    def test_silent_and_store_history_do_not_count(self):
        before, _ = self.run_cell("1")
        self.run_cell("2", silent=True)
        self.run_cell("3", store_history=False)
        after, _ = self.run_cell("4")
        self.assertEqual(after["execution_count"], before["execution_count"] + 1)

    def test_silent_emits_nothing(self):
        _, outputs = self.run_cell("2+2", silent=True)
        self.assertEqual([m["msg_type"] for m in outputs], [])

    def test_reply_has_error_fields(self):
        reply, _ = self.run_cell('let q: i32 = "s";')
        self.assertEqual(reply["status"], "error")
        for field in ("ename", "evalue", "traceback"):
            self.assertIn(field, reply)

    def test_reply_has_user_expressions(self):
        reply, _ = self.run_cell("1")
        self.assertIn("user_expressions", reply)

    def test_panic_is_an_error(self):
        reply, outputs = self.run_cell('panic!("boom-marker");')
        self.assertEqual(reply["status"], "error", [m["msg_type"] for m in outputs])
        self.assertIn("boom-marker", reply["evalue"])

    def test_question_mark_error_is_an_error(self):
        reply, outputs = self.run_cell('let n: i32 = "zz".parse::<i32>()?;')
        self.assertEqual(reply["status"], "error", [m["msg_type"] for m in outputs])

    def test_panic_keeps_variables(self):
        self.run_cell("let keep_me = vec![1, 2, 3];")
        self.run_cell('panic!("x");')
        _, outputs = self.run_cell('println!("{:?}", keep_me);')
        self.assertIn("[1, 2, 3]", self.text(outputs))

    def test_stop_on_error_aborts_the_queue(self):
        self.flush_channels()
        first = self.kc.execute('let q: i32 = "s";', stop_on_error=True)
        second = self.kc.execute('println!("should not run");')
        statuses = {}
        end = time.time() + 120
        while len(statuses) < 2 and time.time() < end:
            try:
                message = self.kc.get_shell_msg(timeout=1)
            except Empty:
                continue
            statuses[message["parent_header"]["msg_id"]] = message["content"]["status"]
        self.assertEqual(statuses.get(first), "error")
        self.assertEqual(statuses.get(second), "aborted")

    def test_stdout_without_newline_arrives(self):
        _, outputs = self.run_cell('print!("partial-no-newline");')
        self.assertEqual(self.text(outputs), "partial-no-newline")

    def test_flushed_stdout_does_not_hang(self):
        code = 'print!("abc"); use std::io::Write as _; std::io::stdout().flush().unwrap();'
        _, outputs = self.run_cell(code, timeout=30)
        self.assertEqual(self.text(outputs), "abc")

    def test_stdout_streams_while_running(self):
        self.flush_channels()
        code = 'println!("first"); std::thread::sleep(std::time::Duration::from_secs(3)); println!("second");'
        message_id = self.kc.execute(code)
        self.wait_for_text(message_id, "first")
        seen = time.time()
        self.collect(message_id)
        self.assertGreater(time.time() - seen, 2)

    def test_execute_result_comes_after_stdout(self):
        _, outputs = self.run_cell('println!("A"); 7')
        self.assertEqual([m["msg_type"] for m in outputs], ["stream", "execute_result"])

    def test_comm_info(self):
        self.flush_channels()
        message_id = self.kc.comm_info()
        reply = self.get_non_kernel_info_reply(timeout=5)
        validate_message(reply, "comm_info_reply", message_id)

    def test_update_display_data(self):
        _, outputs = self.run_cell(
            "use glassbox_prelude::display::{MimeBundle, display_live};"
            'let shown = display_live(&MimeBundle::text("a")); shown.update(&MimeBundle::text("b"));'
        )
        self.assertEqual([m["msg_type"] for m in outputs], ["display_data", "update_display_data"])

    def test_a_cell_asks_for_input(self):
        self.flush_channels()
        message_id = self.kc.execute('let name = input("who? ")?; println!("got {name}");', allow_stdin=True)
        question = self.kc.get_stdin_msg(timeout=90)
        # Not validate_message: its schema wants a number where the protocol (and ipykernel) has a boolean.
        self.assertEqual(question["msg_type"], "input_request")
        self.assertEqual(question["parent_header"]["msg_id"], message_id)
        self.assertEqual(question["content"], {"prompt": "who? ", "password": False})
        self.kc.input("ferris")
        _, outputs = self.collect(message_id)
        self.assertEqual(self.text(outputs), "got ferris\n")

    def test_input_without_anyone_to_ask_is_an_error(self):
        reply, _ = self.run_cell('let name = input("who? ")?;', allow_stdin=False)
        self.assertEqual(reply["status"], "error")

    def stop_and_find_variables(self, loop):
        self.run_cell("let survivor = 41;")
        self.flush_channels()
        message_id = self.kc.execute('println!("started"); ' + loop)
        self.wait_for_text(message_id, "started")
        asked = time.time()
        self.km.interrupt_kernel()
        reply, _ = self.collect(message_id, timeout=30)
        self.assertEqual(reply["status"], "error")
        self.assertLess(time.time() - asked, 5)
        _, outputs = self.run_cell('println!("v={}", survivor);')
        self.assertIn("v=41", self.text(outputs))

    def test_interrupt_stops_a_loop_that_looks_and_keeps_variables(self):
        self.stop_and_find_variables("loop { glassbox_prelude::session::check_interrupt()?; }")

    @unittest.skipUnless(platform.machine() == "x86_64", "only there code that does not look is stopped")
    def test_interrupt_stops_a_loop_that_does_not_look_and_keeps_variables(self):
        self.stop_and_find_variables("loop { std::hint::black_box(1); }")

    def test_a_second_interrupt_ends_a_call_that_does_not_return(self):
        self.flush_channels()
        message_id = self.kc.execute('println!("started"); std::thread::sleep(std::time::Duration::from_secs(600));')
        self.wait_for_text(message_id, "started")
        self.km.interrupt_kernel()
        self.wait_for_text(message_id, "Interrupt again", timeout=30)
        self.km.interrupt_kernel()
        reply, _ = self.collect(message_id, timeout=30)
        self.assertEqual(reply["status"], "error")
        reply, _ = self.run_cell("42")
        self.assertEqual(reply["status"], "ok")

    def test_usable_after_abort(self):
        reply, outputs = self.run_cell('println!("last words"); std::process::abort();')
        self.assertEqual(reply["status"], "error")
        self.assertIn("last words", self.text(outputs))
        reply, _ = self.run_cell("40 + 2")
        self.assertEqual(reply["status"], "ok")

    def test_reply_when_stdout_is_huge(self):
        reply, outputs = self.run_cell('for i in 0..20000 { println!("{i}"); }')
        self.assertEqual(reply["status"], "ok")
        self.assertEqual(self.text(outputs), "".join(f"{i}\n" for i in range(20000)))

    def test_completion_positions_are_code_points(self):
        self.flush_channels()
        code = 'let é = "😀"; é.le'
        message_id = self.kc.complete(code, len(code))
        reply = self.get_non_kernel_info_reply(timeout=60)
        validate_message(reply, "complete_reply", message_id)
        self.assertEqual(reply["content"]["cursor_end"], len(code))
        self.assertIn("len", [match.split("(")[0] for match in reply["content"]["matches"]])


# It inherits how a kernel is started, not the stock tests, which StockSuite runs.
for name in dir(jkt.KernelTests):
    if name.startswith("test_") and name not in vars(Stricter):
        setattr(Stricter, name, None)


if __name__ == "__main__":
    unittest.main()

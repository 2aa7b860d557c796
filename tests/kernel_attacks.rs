//! The built kernel among others who reach its ports: what they send, without the key or with a recorded message, harms nobody.
//!
//! Each test attacks a kernel and then works with it as an honest client. `GLASSBOX_FUZZ_CASES` is the number of cases of the last one.

mod kernel_client;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jupyter_zmq_client::{
    create_client_shell_connection_with_identity, create_client_stdin_connection_with_identity,
    peer_identity_for_session,
};
use kernel_client::raw::{COMMAND, LONG, MORE, Raw, frame, greeting, header, ready};
use kernel_client::{Kernel, WARM, block_on, request, signed};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;
use tokio::time::timeout;

/// The ports of a kernel, each with the kind of socket that fits it.
fn ports(kernel: &Kernel) -> [(&'static str, u16, &'static str); 5] {
    let of = &kernel.connection;
    [
        ("shell", of.shell_port, "DEALER"),
        ("control", of.control_port, "DEALER"),
        ("stdin", of.stdin_port, "DEALER"),
        ("iopub", of.iopub_port, "SUB"),
        ("heartbeat", of.hb_port, "REQ"),
    ]
}

/// The kernel answers on all five sockets, those who were there and those who come.
async fn answers(kernel: &mut Kernel) -> Result<()> {
    let info = kernel.ask("kernel_info_request", json!({})).await;
    ensure!(info.context("shell")?["status"] == "ok");
    let info = kernel.ask_control("kernel_info_request", json!({})).await;
    ensure!(info.context("control")?["status"] == "ok");
    kernel.listen_anew().await.context("iopub")?;
    let beat = timeout(WARM, kernel.heartbeat.single_heartbeat()).await;
    beat.context("the heartbeat is still")??;
    let mut raw = Raw::shaken(kernel.connection.hb_port, "REQ", b"")?;
    raw.message(&[b"", b"ping"])?;
    ensure!(raw.receive()?.last().is_some_and(|body| !body.is_empty()));
    Ok(())
}

#[test]
fn a_frame_that_announces_more_than_comes_costs_nothing() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        let before = kernel.memory()?;
        for (name, port, kind) in ports(&kernel) {
            for length in [1u64 << 36, 1 << 40, 1 << 62, u64::MAX, u64::MAX - 65536] {
                for flags in [0, MORE, COMMAND] {
                    // Instead of a greeting, after it, and once hands are shaken.
                    let mut first = Raw::connect(port)?;
                    first.send(&header(flags, length))?;
                    first.send(&[0; 64])?;
                    let mut second = Raw::connect(port)?;
                    second.send(&greeting())?;
                    second.send(&header(flags, length))?;
                    let mut third = Raw::shaken(port, kind, b"")?;
                    third.send(&header(flags, length))?;
                    third.send(b"and some bytes")?;
                    for raw in [&mut first, &mut second, &mut third] {
                        raw.wait_for_end(Duration::from_secs(5))
                            .with_context(|| format!("{name} {length} {flags}"))?;
                    }
                }
            }
        }
        let after = kernel.most_memory()?;
        ensure!(after < before + 40, "{before} MiB, then {after}");
        answers(&mut kernel).await?;
        ensure!(
            kernel.log()?.contains("announces a message of"),
            "{}",
            kernel.log()?
        );
        Ok(())
    })
}

#[test]
fn what_is_never_finished_is_held_within_limits() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        answers(&mut kernel).await?;
        let before = kernel.memory()?;
        let mut held = Vec::new();
        let part = vec![7; 1 << 20];
        for at in 0..50 {
            let (_, port, kind) = ports(&kernel)[at % 4];
            let mut raw = Raw::shaken(port, kind, b"")?;
            let sent = (|| -> Result<()> {
                match at % 3 {
                    // One long frame, many frames of one message, and many of nothing.
                    0 => raw.send(&header(0, 31 << 20))?,
                    1 => {}
                    _ => return raw.send(&[MORE, 0].repeat(2 << 20)),
                }
                for _ in 0..30 {
                    match at % 3 {
                        0 => raw.send(&part)?,
                        _ => raw.send(&frame(MORE, &part))?,
                    }
                }
                Ok(())
            })();
            // The kernel may have closed it meanwhile.
            drop(sent);
            held.push(raw);
        }
        let after = kernel.most_memory()?;
        ensure!(after < before + 250, "{before} MiB, then {after}");
        answers(&mut kernel).await?;
        drop(held);
        // What was held is given back: a large honest message is read, from somebody new and from somebody known.
        let code = format!("/* {} */", "x".repeat(20 << 20));
        let identity = peer_identity_for_session("large")?;
        let mut shell =
            create_client_shell_connection_with_identity(&kernel.connection, "large", identity)
                .await?;
        shell
            .send(request("is_complete_request", json!({ "code": code })))
            .await?;
        let reply = timeout(WARM, shell.read()).await.context("no reply")??;
        ensure!(reply.header.msg_type == "is_complete_reply");
        Ok(())
    })
}

#[test]
fn a_handshake_that_does_not_end_is_ended() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        let mut open = Vec::new();
        for (_, port, _) in ports(&kernel) {
            for begins in [&b""[..], &greeting()[..12], &greeting(), b"\xff"] {
                let mut raw = Raw::connect(port)?;
                raw.send(begins)?;
                open.push(raw);
            }
        }
        answers(&mut kernel).await?;
        for raw in &mut open {
            raw.wait_for_end(Duration::from_secs(15))?;
        }
        ensure!(
            kernel.log()?.contains("handshake did not end"),
            "{}",
            kernel.log()?
        );
        answers(&mut kernel).await
    })
}

/// Prints 40 MB in lines.
const FLOOD: &str = "let line = \"x\".repeat(999); for _ in 0..40_000 { println!(\"{line}\"); }";
const FLOODED: usize = 40_000_000;

#[test]
fn one_listener_that_stops_costs_the_others_nothing() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        kernel.run("1").await?.ok()?;
        let before = kernel.memory()?;
        let port = kernel.connection.iopub_port;
        // Stopped from the beginning, three of them; and one who takes a little now and then.
        let mut stopped: Vec<Raw> = (0..3)
            .map(|_| Raw::subscriber(port))
            .collect::<Result<_>>()?;
        let mut trickle = Raw::subscriber(port)?;
        let trickling = std::thread::spawn(move || {
            let until = Instant::now() + Duration::from_secs(60);
            let mut byte = [0; 1];
            while Instant::now() < until
                && std::io::Read::read_exact(&mut trickle.0, &mut byte).is_ok()
            {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let begun = Instant::now();
        let ran = kernel.run(FLOOD).await?.ok()?;
        let took = begun.elapsed();
        let text = ran.text("stdout").len();
        ensure!(text == FLOODED, "{text} bytes came");
        ensure!(took < Duration::from_secs(40), "{took:?}");
        let after = kernel.most_memory()?;
        ensure!(after < before + 200, "{before} MiB, then {after}");
        ensure!(
            kernel.log()?.contains("takes no outputs"),
            "{}",
            kernel.log()?
        );
        // The next cells are not held up again.
        let begun = Instant::now();
        kernel.run("println!(\"again\");").await?.ok()?;
        ensure!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );

        // Who reads again learns what is missing, and that the cells have ended.
        let back = &mut stopped[0];
        let (mut text, mut idle) = (String::new(), 0);
        while idle < 2 {
            let frames = back.receive().context("the slow listener")?;
            let mark = frames.iter().position(|frame| frame == b"<IDS|MSG>");
            let parts = &frames[mark.context("no delimiter")? + 2..];
            let content: serde_json::Value = serde_json::from_slice(&parts[3])?;
            text += content["text"].as_str().unwrap_or("");
            let ours = content["execution_state"] == "idle" && text.len() > 999;
            idle += usize::from(ours);
        }
        ensure!(
            text.contains("are missing here"),
            "nothing is said of a gap"
        );
        ensure!(text.len() < FLOODED, "nothing is missing");
        let ran = kernel.run("println!(\"end\");").await?.ok()?;
        ensure!(ran.text("stdout") == "end\n");
        drop(trickling);
        Ok(())
    })
}

#[test]
fn every_socket_outlives_what_a_client_does_to_it() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        let mut half_open = Vec::new();
        for (_, port, kind) in ports(&kernel) {
            let kinds = [kind, "DEALER", "REQ", "SUB", "PUSH", "PAIR", ""];
            for kind in kinds {
                // A kind that does not fit is refused, one that does may send what it likes.
                for bytes in [
                    frame(0, b"no delimiter"),
                    frame(0, b""),
                    [frame(MORE, b""), frame(MORE, b"")].concat(),
                    frame(COMMAND, b"\x04PING\0\x0acontext"),
                    frame(COMMAND, b"\x04PING"),
                    frame(COMMAND, b"\xffPING"),
                    frame(COMMAND, b""),
                    frame(COMMAND, b"\x05ERROR\x04oops"),
                    frame(0x80, b"flags"),
                    frame(0, b"\x01topic"),
                    frame(0, &[0xff; 300]),
                ] {
                    let Ok(mut raw) = Raw::shaken(port, kind, b"somebody") else {
                        continue;
                    };
                    // The kernel may have closed it already.
                    let _ = raw.send(&bytes);
                    raw.reset();
                }
            }
            // Gone before, in and after the handshake, and in the middle of a message.
            Raw::connect(port)?.reset();
            for bytes in [&greeting()[..30], &greeting()] {
                let mut raw = Raw::connect(port)?;
                raw.send(bytes)?;
                raw.reset();
            }
            let mut raw = Raw::shaken(port, kind, b"")?;
            raw.send(&header(0, 1000))?;
            raw.send(b"a part")?;
            raw.reset();
            let mut raw = Raw::shaken(port, kind, b"")?;
            raw.send(&header(0, 1000))?;
            half_open.push(raw);
        }
        // A PING is answered, by every socket.
        for (name, port, kind) in ports(&kernel) {
            let mut raw = Raw::shaken(port, kind, b"")?;
            raw.send(&frame(COMMAND, b"\x04PING\0\x0acontext"))?;
            let (flags, body) = raw.frame().with_context(|| name.to_owned())?;
            ensure!(
                (flags, &body[..]) == (COMMAND, &b"\x04PONGcontext"[..]),
                "{name} {body:?}"
            );
        }
        answers(&mut kernel).await
    })
}

#[test]
fn a_message_that_is_sent_again_is_not_done_again() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        kernel.run("let mut count = 0;").await?.ok()?;
        let header = br#"{"msg_id":"recorded","session":"s","username":"u","date":"2024-01-01T00:00:00Z","msg_type":"execute_request","version":"5.4"}"#;
        let key = kernel.connection.key.clone();
        let recorded = signed(&key, [header, b"{}", b"{}", br#"{"code":"count += 1;"}"#]);
        let frames: Vec<Vec<u8>> = recorded
            .into_vec()
            .iter()
            .map(|frame| frame.to_vec())
            .collect();
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let (shell, control) = (kernel.connection.shell_port, kernel.connection.control_port);
        let mut first = Raw::shaken(shell, "DEALER", b"")?;
        first.message(&frames)?;
        first.receive().context("the message itself is answered")?;
        // From the same client, from another, by the other socket, and with a buffer, which no signature covers.
        first.message(&frames)?;
        let with_buffer = [&frames[..], &[b"buffer"]].concat();
        for port in [shell, control] {
            let mut other = Raw::shaken(port, "DEALER", b"")?;
            other.message(&frames)?;
            other.message(&with_buffer)?;
        }
        for (_, port, _) in ports(&kernel).into_iter().take(2) {
            // Once this is answered, what came before it on the same socket has been looked at.
            let mut raw = Raw::shaken(port, "DEALER", b"")?;
            let header =
                format!(r#"{{"msg_id":"{port}","msg_type":"kernel_info_request","session":"s"}}"#);
            let asked = signed(&key, [header.as_bytes(), b"{}", b"{}", b"{}"]);
            let frames: Vec<Vec<u8>> = asked
                .into_vec()
                .iter()
                .map(|frame| frame.to_vec())
                .collect();
            raw.message(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
            raw.receive()?;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let ran = kernel.run("count").await?.ok()?;
        ensure!(
            ran.first("execute_result")["data"]["text/plain"] == "1",
            "{:#?}",
            ran.outputs
        );
        ensure!(
            kernel.log()?.contains("that was sent again"),
            "{}",
            kernel.log()?
        );
        Ok(())
    })
}

#[test]
fn connections_without_end_leave_room_for_others() -> Result<()> {
    block_on(async {
        // So few descriptors that connections use all up, however few each socket takes.
        // Fewer than the system keeps waiting, or connecting would.
        for (files, rounds) in [(1024, 300), (44, 40)] {
            let mut kernel = Kernel::start_limited(files, &[]).await?;
            if files > 100 {
                // Completion gets ready now and not while the processor's time is measured.
                let asked = json!({ "code": "Vec::with_cap", "cursor_pos": 13 });
                kernel.ask("complete_request", asked).await?;
            }
            // Who has shown the key keeps the place; a heartbeat has none to show, and comes back.
            kernel.ask("kernel_info_request", json!({})).await?;
            kernel.ask_control("kernel_info_request", json!({})).await?;
            let mut open = BTreeMap::new();
            for round in 0..rounds {
                for (at, (_, port, kind)) in ports(&kernel).into_iter().enumerate() {
                    let mut raw = match Raw::connect(port) {
                        Ok(raw) => raw,
                        Err(error) => return Err(error.context(format!("{round} {port}"))),
                    };
                    if round % 2 == 0 {
                        // Not read: who has no descriptor left does not answer.
                        let _ = raw.send(&greeting());
                        let _ = raw.send(&ready(kind, b""));
                    }
                    open.insert((round, at), raw);
                }
            }
            // What came is looked at; then there is nothing to do but wait.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let (begun, before) = (Instant::now(), kernel.processor_time()?);
            tokio::time::sleep(Duration::from_secs(2)).await;
            let used = kernel.processor_time()? - before;
            ensure!(
                used < begun.elapsed() / 4,
                "it spins: {used:?} with {files}"
            );
            // Who has shown the key before is served on; cells run, too, where descriptors are left.
            kernel.ask("kernel_info_request", json!({})).await?;
            if files > 100 {
                let ran = kernel.run("40 + 2").await?.ok()?;
                ensure!(ran.first("execute_result")["data"]["text/plain"] == "42");
                // A newcomer to iopub, where nobody can show a key, may find all places taken until strangers leave.
                kernel.ask_control("kernel_info_request", json!({})).await?;
            }
            open.clear();
            kernel.beat_anew().await?;
            answers(&mut kernel).await.with_context(|| {
                format!("{files} descriptors; {}", kernel.log().unwrap_or_default())
            })?;
        }
        Ok(())
    })
}

#[test]
fn an_empty_key_is_warned_of() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (ip, words) in [
        ("0.0.0.0", "EVERYBODY WHO REACHES THIS MACHINE"),
        ("127.0.0.1", "every user and program of this machine"),
    ] {
        let free = || -> Result<u16> {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
            Ok(listener.local_addr()?.port())
        };
        let connection = json!({
            "ip": ip, "transport": "tcp", "key": "", "signature_scheme": "hmac-sha256",
            "shell_port": free()?, "iopub_port": free()?, "stdin_port": free()?,
            "control_port": free()?, "hb_port": free()?,
        });
        let file = folder.path().join("connection.json");
        std::fs::write(&file, connection.to_string())?;
        let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_glassbox"))
            .args(["kernel", "--connection-file"])
            .arg(&file)
            .env("GLASSBOX_HISTORY", folder.path().join("history"))
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stderr = process.stderr.take().context("no stderr")?;
        let read = std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line);
        // SAFETY: no memory is involved.
        unsafe { libc::kill(process.id() as i32, libc::SIGTERM) };
        process.wait()?;
        read?;
        ensure!(line.contains("WARNING") && line.contains(words), "{line}");
    }
    Ok(())
}

#[test]
fn an_answer_counts_only_from_the_client_that_was_asked() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        let identity = peer_identity_for_session("another")?;
        let mut other =
            create_client_stdin_connection_with_identity(&kernel.connection, "another", identity)
                .await?;
        let code = "let name = input(\"who? \")?; println!(\"hello {name}\");";
        let cell = json!({ "code": code, "allow_stdin": true });
        let id = kernel.send("execute_request", cell).await?;
        timeout(kernel_client::COLD, kernel.stdin.read())
            .await
            .context("no question")??;
        other
            .send(request("input_reply", json!({ "value": "Mallory" })))
            .await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        ensure!(
            timeout(Duration::from_millis(10), other.read())
                .await
                .is_err(),
            "another client was asked"
        );
        kernel
            .stdin
            .send(request("input_reply", json!({ "value": "Ferris" })))
            .await?;
        let ran = kernel.finish(&id).await?.ok()?;
        ensure!(ran.text("stdout") == "hello Ferris\n", "{ran:#?}");
        ensure!(
            kernel.log()?.contains("its client was not asked"),
            "{}",
            kernel.log()?
        );
        Ok(())
    })
}

#[test]
fn a_name_that_was_taken_gets_no_answers_of_others() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        let identity = peer_identity_for_session("the name")?;
        let mut shell =
            create_client_shell_connection_with_identity(&kernel.connection, "s", identity).await?;
        let mut impostor = Raw::shaken(kernel.connection.shell_port, "DEALER", b"the name")?;
        for _ in 0..3 {
            shell
                .send(request("kernel_info_request", json!({})))
                .await?;
            let reply = timeout(WARM, shell.read()).await.context("no reply")??;
            ensure!(reply.header.msg_type == "kernel_info_reply");
        }
        impostor
            .0
            .set_read_timeout(Some(Duration::from_millis(300)))?;
        ensure!(impostor.frame().is_err(), "somebody else got a reply");
        answers(&mut kernel).await
    })
}

/// One thing that a client does on a connection.
#[derive(Clone, Debug)]
enum Step {
    Greeting,
    Ready(String),
    Frame(u8, Vec<u8>),
    Announce(u8, u64),
    Bytes(Vec<u8>),
    /// One of the others with a byte changed.
    Changed(usize, u8),
}

impl Step {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Step::Greeting => greeting(),
            Step::Ready(kind) => ready(kind, b"fuzz"),
            Step::Frame(flags, body) => frame(*flags, body),
            Step::Announce(flags, length) => header(*flags | LONG, *length),
            Step::Bytes(bytes) => bytes.clone(),
            Step::Changed(at, byte) => {
                let mut bytes =
                    [greeting(), ready("DEALER", b"fuzz"), frame(0, b"<IDS|MSG>")].concat();
                let at = at % bytes.len();
                bytes[at] = *byte;
                bytes
            }
        }
    }
}

#[test]
fn any_bytes_before_a_signature_leave_the_kernel_alive() -> Result<()> {
    use proptest::prelude::*;
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name}={text:?} is not a number")),
        Err(_) => Ok(default),
    };
    let (cases, seed) = (
        number("GLASSBOX_FUZZ_CASES", 300)?,
        number("GLASSBOX_FUZZ_SEED", 0)?,
    );
    let kind = prop_oneof![
        Just("DEALER"),
        Just("REQ"),
        Just("SUB"),
        Just("XSUB"),
        Just("ROUTER"),
        Just("PAIR")
    ];
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 200..700),
        Just(b"<IDS|MSG>".to_vec()),
        Just(b"\x04PING\0\0x".to_vec()),
        Just(b"\x09SUBSCRIBEstream".to_vec()),
        Just(b"\x01".to_vec()),
        Just("0".repeat(64).into_bytes()),
        Just(b"{}".to_vec()),
    ];
    let step = prop_oneof![
        1 => Just(Step::Greeting),
        1 => kind.clone().prop_map(|kind| Step::Ready(kind.to_owned())),
        6 => (0u8..8, body).prop_map(|(flags, body)| Step::Frame(flags, body)),
        1 => (any::<u8>(), any::<u64>()).prop_map(|(flags, length)| Step::Announce(flags, length)),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Step::Bytes),
        1 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Step::Changed(at, byte)),
    ];
    // Most shake hands first, or nothing behind the handshake would be reached.
    let case = (
        0usize..5,
        prop::option::weighted(0.8, kind),
        prop::collection::vec(step, 0..12),
        any::<bool>(),
    );
    let mut bytes = [7u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    block_on(async {
        let mut kernel = Kernel::start().await?;
        let before = kernel.memory()?;
        for at in 0..cases {
            let (port, hands, steps, reset) = case
                .new_tree(&mut runner)
                .map_err(|why| anyhow::anyhow!("no case: {why}"))?
                .current();
            let (_, port, _) = ports(&kernel)[port];
            let mut raw = Raw::connect(port)?;
            if let Some(kind) = hands {
                let hello = [greeting(), ready(kind, b"fuzz")].concat();
                let _ = raw.0.write_all(&hello);
            }
            for step in &steps {
                // The kernel closes it when it has seen enough.
                let _ = raw.0.write_all(&step.bytes());
            }
            if reset {
                raw.reset();
            }
            let ended = kernel.process.try_wait()?;
            ensure!(ended.is_none(), "case {at}: {ended:?} after {steps:?}");
            if at % 100 == 99 {
                let beat = timeout(WARM, kernel.heartbeat.single_heartbeat()).await;
                beat.with_context(|| format!("case {at}: the heartbeat is still"))??;
                kernel.ask("kernel_info_request", json!({})).await?;
            }
        }
        answers(&mut kernel).await?;
        let after = kernel.most_memory()?;
        ensure!(after < before + 100, "{before} MiB, then {after}");
        ensure!(!kernel.log()?.contains("panicked"), "{}", kernel.log()?);
        let ran = kernel.run("40 + 2").await?.ok()?;
        ensure!(ran.first("execute_result")["data"]["text/plain"] == "42");
        Ok(())
    })
}

//! Takes orders one by one, and answers questions.

use std::io::{BufReader, stdin, stdout};

use anyhow::{Context as _, Result};
use glassbox_analyst_wire::{Answer, Order, Question, line};

use super::world::World;
use super::{explain, propose};

/// rust-analyzer calls itself once for each level that code nests; only what is used of it takes memory.
const STACK: usize = 256 << 20;

/// Answers until nobody asks any more.
pub fn run() -> Result<()> {
    let thread = std::thread::Builder::new()
        .name("rust-analyzer".to_owned())
        .stack_size(STACK)
        .spawn(answer)?;
    // A panic said on stderr what it was.
    thread.join().ok().context("rust-analyzer panicked")?
}

fn answer() -> Result<()> {
    let (mut orders, mut answers) = (BufReader::new(stdin()), stdout());
    let mut world = Err("rust-analyzer was shown nothing".to_owned());
    while let Some(order) = line::receive(&mut orders)? {
        match order {
            Order::Read(crates) => {
                // One database at a time: the old one goes first.
                drop(std::mem::replace(&mut world, Err(String::new())));
                world = World::load(&crates);
            }
            Order::Tidy => {
                if let Ok(world) = &mut world {
                    world.tidy();
                }
            }
            Order::Ask(page, question) => {
                let answer = match &mut world {
                    Err(reason) => Answer::Refused(reason.clone()),
                    Ok(world) => {
                        let view = world.show(page);
                        match question {
                            Question::Complete => Answer::Completions(propose::complete(&view)),
                            Question::Inspect(subject) => {
                                Answer::Inspection(explain::inspect(&view, subject))
                            }
                            Question::TypeOf => Answer::Type(explain::type_of(&view)),
                        }
                    }
                };
                line::send(&mut answers, &answer)?;
            }
        }
    }
    // The process ends at once, without taking the database apart.
    std::process::exit(0)
}

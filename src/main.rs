//! The `glassbox` binary: roles of the same executable, then the command line.

fn main() {}

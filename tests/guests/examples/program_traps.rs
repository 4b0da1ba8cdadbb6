//! A program that prints a line and aborts.
#![expect(clippy::print_stdout, reason = "a program prints")]

fn main() {
    println!("about to trap");
    std::process::abort();
}

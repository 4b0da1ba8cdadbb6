//! A program that prints a line and ends well.
#![expect(clippy::print_stdout, reason = "a program prints")]

fn main() {
    println!("done");
}

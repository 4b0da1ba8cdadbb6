//! A program that prints its arguments, a line each, and ends well.
#![expect(clippy::print_stdout, reason = "a program prints")]

fn main() {
    for (nth, argument) in std::env::args().enumerate() {
        println!("argument {nth}: {argument}");
    }
}

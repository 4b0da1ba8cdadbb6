//! A program that prints a line and ends with exit code 3, of which WASI 0.2 passes on only that it is a failure.
#![expect(clippy::print_stdout, reason = "a program prints")]

fn main() {
    println!("about to fail");
    std::process::exit(3);
}

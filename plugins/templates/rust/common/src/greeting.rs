//! The answer, as plain Rust that runs anywhere.

/// Greets `who`: a name, or the path of a request, which begins below the plugin's route.
pub fn greet(greeting: &str, who: &str) -> String {
    let who = match who.trim().trim_matches('/') {
        "" => "world",
        who => who,
    };
    format!("{greeting}, {who}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_is_greeted_by_name() {
        assert_eq!(greet("Hello", "/"), "Hello, world\n");
        assert_eq!(greet("Hello", "Ada\r\n"), "Hello, Ada\n");
        assert_eq!(greet("Good morning", "/Ada/"), "Good morning, Ada\n");
    }
}

//! Answers its environment variables, sorted, a line each.

async fn respond(_words: &[&str]) -> String {
    let mut all: Vec<_> = std::env::vars().collect();
    all.sort();
    all.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

plugind_test_guests::serve!(respond);

//! Imports an interface that the host does not have.
#![expect(missing_docs, reason = "wit-bindgen writes it here, in this crate")]

wit_bindgen::generate!({
    inline: "
        package acme:database@1.0.0;

        interface query {
            ask: func(question: string) -> string;
        }

        world asker {
            import query;
        }
    ",
});

async fn respond(_words: &[&str]) -> String {
    acme::database::query::ask("anything there?")
}

plugind_test_guests::serve!(respond);

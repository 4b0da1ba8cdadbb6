//! Answers what it sees of a request, and gives back as headers what `x-give: NAME: VALUE` asks for.

use plugind_test_guests::{Answered, answer_with};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{Fields, Request};

struct Headers;

impl Guest for Headers {
    async fn handle(request: Request) -> Answered {
        let mut text = format!(
            "method: {:?}\nscheme: {:?}\nauthority: {:?}\npath: {:?}\n",
            request.get_method(),
            request.get_scheme(),
            request.get_authority(),
            request.get_path_with_query(),
        );
        let given = Fields::new();
        let fields = request.get_headers();
        for (name, value) in fields.copy_all() {
            let value = String::from_utf8_lossy(&value).into_owned();
            text.push_str(&format!("header {name}: {value}\n"));
            if name != "x-give" {
                continue;
            }
            let (name, value) = value.split_once(": ").unwrap_or((&value, ""));
            if let Err(error) = given.append(name, value.as_bytes()) {
                text.push_str(&format!("refused {name}: {error:?}\n"));
            }
        }
        Ok(answer_with(given, text))
    }
}

wasip3::http::service::export!(Headers);

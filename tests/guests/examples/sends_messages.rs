//! Sends a message as the path says: `/send/SUBJECT/TEXT`, `/store/SUBJECT/TEXT`, or `/ask/SUBJECT/TEXT` for a reply.

use plugind_sdk::messaging::{
    Client, Error, Message, producer,
    request_reply::{self, RequestOptions},
};

fn text(error: Error) -> String {
    match error {
        Error::Timeout => "timeout".to_owned(),
        Error::Connection(text) => format!("connection: {text}"),
        Error::PermissionDenied(text) => format!("permission denied: {text}"),
        Error::Other(text) => format!("other: {text}"),
    }
}

fn send(client: &str, subject: &str, message: Message) -> Result<String, Error> {
    producer::send(&Client::connect(client)?, subject, message)?;
    Ok("sent".to_owned())
}

fn ask(subject: &str, message: &Message, replies: u32) -> Result<String, Error> {
    let options = RequestOptions::new();
    options.set_timeout_ms(2000);
    options.set_expected_replies(replies);
    let client = Client::connect("default")?;
    let replies = request_reply::request(&client, subject, message, Some(options))?;
    let replies = replies.iter().map(|it| String::from_utf8_lossy(&it.data()).into_owned());
    Ok(replies.collect::<Vec<_>>().join(" "))
}

async fn respond(words: &[&str]) -> String {
    let sent = match *words {
        ["send", subject, text] => send("default", subject, Message::new(text.as_bytes())),
        ["store", subject, text] => send("jetstream", subject, Message::new(text.as_bytes())),
        ["by", client, subject] => send(client, subject, Message::new(b"text")),
        ["with", key, value] => {
            let message = Message::new(b"text");
            message.set_content_type("text/plain");
            message.add_metadata(key, value);
            send("default", "events.metadata", message)
        }
        ["ask", subject, text] => ask(subject, &Message::new(text.as_bytes()), 1),
        ["ask-two", subject, text] => ask(subject, &Message::new(text.as_bytes()), 2),
        ["hoard", count] => {
            let count = plugind_test_guests::number(count);
            let messages = (0..count).map(|_| Message::new(&vec![b'x'; 1 << 20]));
            Ok(messages.collect::<Vec<_>>().len().to_string())
        }
        _ => Ok("fine".to_owned()),
    };
    sent.unwrap_or_else(text)
}

plugind_test_guests::serve!(respond);

//! Sends each message on as `done.NAME`, and does with it what `mood` of its configuration says.

use plugind_sdk::{
    MessageHandler, config, identity,
    messaging::{Client, Error, Message, producer, request_reply},
};

struct Handler;

impl MessageHandler for Handler {
    fn handle(message: Message) -> Result<(), Error> {
        let data = String::from_utf8_lossy(&message.data()).into_owned();
        match config::get("mood").ok().flatten().as_deref() {
            Some("trap") => panic!("a bad mood"),
            Some("hang") => loop {
                std::hint::spin_loop();
            },
            Some("error") => return Err(Error::Other("not today".to_owned())),
            Some("slow") => std::thread::sleep(std::time::Duration::from_millis(20)),
            Some("wait") => std::thread::sleep(std::time::Duration::from_secs(3600)),
            _ => (),
        }
        let metadata = message.metadata().unwrap_or_default();
        let metadata = metadata.iter().map(|(key, value)| format!(" {key}={value}"));
        let content_type = message.content_type().map(|it| format!(" as {it}"));
        let topic = message.topic().unwrap_or_default();
        let seen = format!(
            "{topic} {data}{}{}",
            content_type.unwrap_or_default(),
            metadata.collect::<String>()
        );
        let (client, done) = (Client::connect("default")?, format!("done.{}", identity::name()));
        producer::send(&client, &done, Message::new(seen.as_bytes()))?;
        request_reply::reply(&message, Message::new(seen.as_bytes()))
    }
}

plugind_sdk::export_messages!(Handler);

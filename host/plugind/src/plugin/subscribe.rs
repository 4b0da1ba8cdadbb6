//! `[[subscribe]]` of a manifest: the messages that a plugin receives.

use crate::{
    base::{
        name::PluginName,
        quantity::Span,
        subject::{QueueName, SubjectPattern},
    },
    config::{Origin, Table},
};
use std::{collections::BTreeSet, time::Duration};

/// Time beyond `limits.request-timeout` after which a message that was not acknowledged is delivered again, by default.
const ACK_MARGIN: Duration = Duration::from_secs(10);

/// `[[subscribe]]`: messages that a plugin receives.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// Their subjects.
    pub subject: SubjectPattern,
    /// Where that was written.
    pub origin: Origin,
    /// The group of which one member receives each message; with a stream, the name of its consumer.
    pub queue: Option<QueueName>,
    /// The stream that keeps them until they were handled; none: a message is delivered once, or lost.
    pub stream: Option<StreamSubscription>,
}

/// The part of a subscription that concerns its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSubscription {
    /// The stream.
    pub name: QueueName,
    /// A message that was not acknowledged for so long is delivered again.
    pub ack_wait: Duration,
    /// The number of deliveries after which a message that the plugin fails is given up; none: until it is handled.
    pub max_deliver: Option<u32>,
}

/// The subscriptions of a manifest that were read so far: the subject and the queue, or the stream and its consumer.
pub(super) type SubscriptionsRead = BTreeSet<(String, Option<String>, bool)>;

impl Subscribe {
    /// None without a subject, which is a mistake.
    pub(super) fn read(
        table: &Table<'_>,
        plugin: Option<&PluginName>,
        request_timeout: Duration,
        read: &mut SubscriptionsRead,
    ) -> Option<Self> {
        let subject = table.parsed::<SubjectPattern>("subject");
        let (queue, stream) = (table.parsed("queue"), table.parsed("stream"));
        let subscription = Self {
            subject: match subject {
                Some(subject) => subject,
                None => {
                    if table.origin("subject").0.is_none() {
                        let message =
                            "[[subscribe]] must have a subject, as in subject = \"orders.*\"";
                        table.complain_about("subject", message);
                    }
                    StreamSubscription::read(table, stream, request_timeout);
                    return None;
                }
            },
            origin: table.origin("subject"),
            queue,
            stream: StreamSubscription::read(table, stream, request_timeout),
        };
        subscription.complain_if_twice(table, plugin, read);
        Some(subscription)
    }

    fn complain_if_twice(
        &self,
        table: &Table<'_>,
        plugin: Option<&PluginName>,
        read: &mut SubscriptionsRead,
    ) {
        let queue = self.queue.as_ref().map(ToString::to_string);
        let (key, is_stream, message) = match &self.stream {
            Some(stream) => {
                let message = format!(
                    "subscribe.queue must differ for each [[subscribe]] of the stream \"{}\": it is the name of the \
                     consumer, by default that of the plugin, and a consumer has one subject",
                    stream.name
                );
                let consumer = queue.or_else(|| plugin.map(ToString::to_string));
                ((stream.name.to_string(), consumer), true, message)
            }
            None => {
                let message = format!(
                    "subscribe.subject \"{}\" occurs twice for the same queue; remove one of them",
                    self.subject
                );
                ((self.subject.to_string(), queue), false, message)
            }
        };
        if !read.insert((key.0, key.1, is_stream)) {
            table.complain_about(if is_stream { "queue" } else { "subject" }, message);
        }
    }

    /// The name of the consumer on the stream: members of the same group have the same one.
    #[must_use]
    pub fn consumer<'a>(&'a self, plugin: &'a PluginName) -> &'a str {
        self.queue.as_ref().map_or(plugin.as_str(), QueueName::as_str)
    }
}

impl StreamSubscription {
    fn read(table: &Table<'_>, name: Option<QueueName>, request_timeout: Duration) -> Option<Self> {
        let ack_wait = table.parsed::<Span>("ack-wait-sec");
        let max_deliver = table.number("max-deliver", 1);
        if table.origin("stream").0.is_none() {
            for key in ["ack-wait-sec", "max-deliver"] {
                if table.origin(key).0.is_some() {
                    let message = format!(
                        "subscribe.{key} must not be set without stream: only a stream delivers a message again; \
                         remove it, or write stream = \"NAME\""
                    );
                    table.complain_about(key, message);
                }
            }
        }
        if let Some(wait) = ack_wait.filter(|wait| wait.0 <= request_timeout) {
            let message = format!(
                "subscribe.ack-wait-sec must be greater than limits.request-timeout, \"{}\", not \"{wait}\": a message \
                 would be delivered again while it is handled",
                Span(request_timeout)
            );
            table.complain_about("ack-wait-sec", message);
        }
        let by_default = request_timeout.saturating_add(ACK_MARGIN);
        let ack_wait = ack_wait.map_or(by_default, |wait| wait.0);
        Some(Self { name: name?, ack_wait, max_deliver })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::manifest::test_text::parse;

    #[test]
    fn a_subscription_has_a_subject_and_the_rest_by_default() {
        let text = "[[subscribe]]\nsubject = \"orders.*\"\nqueue = \"workers\"\n\
                    [[subscribe]]\nsubject = \"orders.>\"\nstream = \"ORDERS\"\nmax-deliver = 5\n";
        let manifest = parse(text).unwrap();
        let [plain, kept] = manifest.subscribe.as_slice() else { panic!("two of them") };
        let plugin = "billing".parse().unwrap();
        assert_eq!((plain.subject.as_str(), plain.consumer(&plugin)), ("orders.*", "workers"));
        assert_eq!((&plain.stream, kept.consumer(&plugin)), (&None, "billing"));
        let stream = kept.stream.as_ref().unwrap();
        assert_eq!((stream.ack_wait, stream.max_deliver), (Duration::from_secs(40), Some(5)));
    }

    #[test]
    fn a_mistake_in_a_subscription_is_reported_at_its_place() {
        let subscribe = "[[subscribe]]\nsubject = \"a\"\n";
        for (lines, mistake) in [
            ("[[subscribe]]\n", "1:1: [[subscribe]] must have a subject"),
            (
                "[[subscribe]]\nsubject = \"a b\"\n",
                "2:11: subscribe.subject: a subject cannot have spaces",
            ),
            ("[[subscribe]]\nsubject = \"a\"\nqueue = \"a.b\"\n", "3:9: subscribe.queue: \"a.b\""),
            (
                "[[subscribe]]\nsubject = \"a\"\nack-wait-sec = \"1min\"\n",
                "3:16: subscribe.ack-wait-sec must not be set without stream",
            ),
            (
                "[[subscribe]]\nsubject = \"a\"\nstream = \"S\"\nack-wait-sec = \"30s\"\n",
                "4:16: subscribe.ack-wait-sec must be greater than limits.request-timeout, \"30s\"",
            ),
            (
                "[[subscribe]]\nsubject = \"a\"\nmax-delivery = 3\n",
                "3:1: unknown key \"subscribe.max-delivery\"; did you mean \"max-deliver\"?",
            ),
        ] {
            let mistakes = parse(lines).unwrap_err();
            assert!(mistakes[0].starts_with(&format!("m.toml:{mistake}")), "{mistakes:?}");
        }
        let twice = parse(&format!("{subscribe}{subscribe}")).unwrap_err();
        assert!(twice[0].contains("\"a\" occurs twice for the same queue"), "{twice:?}");
        let stream = format!("{subscribe}stream = \"S\"\n");
        let twice = parse(&format!("{stream}{stream}")).unwrap_err();
        assert!(twice[0].contains("subscribe.queue must differ"), "{twice:?}");
        assert!(parse(&format!("{stream}{stream}queue = \"other\"\n")).is_ok());
        let by_default = parse(&format!("{stream}{stream}queue = \"hello\"\n")).unwrap_err();
        assert!(by_default[0].starts_with("m.toml:7:9: subscribe.queue must"), "{by_default:?}");
    }
}

//! The table `[grants]` as it is written in a manifest.

use super::*;
use crate::{
    base::quantity::Bytes,
    plugin::manifest::test_text::{importing, parse, parse_for},
};
use std::path::Path;

#[test]
fn grants_are_read_and_nothing_is_granted_by_default() {
    assert_eq!(parse("").unwrap().grants, Grants::default());
    let grants = parse(
        "[grants]\nstate = true\nread = [\"/usr/share/zoneinfo\", \"/\"]\ncredentials = [\"api-token\"]\n\
         outgoing-http = [\"API.example.com:443\"]\ncall = [\"orders\"]\npublish = [\"orders.>\"]\n\
         keyvalue = { quota = \"1M\", shared = [\"sessions\"] }\ntcp-connect = [\"10.1.2.3:5432\"]\nenvironment = { LANG = \"C\" }\n",
    )
    .unwrap()
    .grants;
    assert!(grants.state);
    assert_eq!(grants.read, [Path::new("/usr/share/zoneinfo"), Path::new("/")]);
    assert_eq!(grants.credentials, ["api-token"]);
    assert_eq!(grants.outgoing_http[0].to_string(), "api.example.com:443");
    let keyvalue = grants.keyvalue.unwrap();
    assert_eq!((keyvalue.quota, keyvalue.shared.len()), (Bytes(1 << 20), 1));
    assert_eq!(grants.call[0].as_str(), "orders");
    assert_eq!(grants.publish[0].as_str(), "orders.>");
    assert_eq!(grants.tcp_connect[0].to_string(), "10.1.2.3:5432");
    assert_eq!(grants.environment["LANG"], "C");
}

#[test]
fn an_invalid_grant_is_reported_at_its_place() {
    for (line, place) in [
        ("read = [\"/a\", \"b\"]", "2:15: grants.read: \"b\" is not an absolute path"),
        ("read = [\"/a/../b\"]", "2:9: grants.read: "),
        ("read = [\"\"]", "2:9: grants.read: "),
        ("read = [\"/a//b\"]", "2:9: grants.read: "),
        ("state = true\nread = [\"/state\"]", "3:8: grants.read must not contain /state"),
        ("credentials = [\"../x\"]", "2:16: grants.credentials: "),
        ("outgoing-http = [\"example.com\"]", "2:18: grants.outgoing-http: "),
        (
            "outgoing-http = [\"orders.plugind:80\"]",
            "2:18: grants.outgoing-http: \"orders.plugind:80\" is a plugin and not a server",
        ),
        ("call = [\"Orders\"]", "2:9: grants.call: a name can have only"),
        ("keyvalue = { quota = \"0\" }", "2:22: grants.keyvalue.quota must be greater than 0"),
        ("keyvalue = { size = 1 }", "2:14: unknown key \"grants.keyvalue.size\""),
        (
            "keyvalue = { shared = [\"default\"] }",
            "2:24: grants.keyvalue.shared: \"default\" cannot be shared",
        ),
        ("publish = [\"$JS.>\"]", "2:12: grants.publish: a subject cannot begin with \"$\""),
        ("tcp-connect = [\"*:80\"]", "2:16: grants.tcp-connect: "),
        ("environment = { \"A=B\" = \"\" }", "2:15: grants.environment must have names"),
        ("environment = { A = 1 }", "2:21: grants.environment.A must be text"),
        ("raed = []", "2:1: unknown key \"grants.raed\"; did you mean \"read\"?"),
    ] {
        let mistakes = parse(&format!("[grants]\n{line}\n")).unwrap_err();
        assert!(mistakes[0].starts_with(&format!("m.toml:{place}")), "{mistakes:?}");
    }
}

#[test]
fn a_grant_without_an_import_that_uses_it_is_reported_at_its_place() {
    let all = "[grants]\nstate = true\nread = [\"/a\"]\ncredentials = [\"b\"]\noutgoing-http = [\"c:80\"]\n\
               call = [\"f\"]\nkeyvalue = {}\npublish = [\"e\"]\ntcp-connect = [\"d:80\"]\nenvironment = { E = \"\" }\n";
    let mistakes = parse_for(Some(importing(&[])), all).unwrap_err();
    assert_eq!(mistakes.len(), Grant::ALL.len(), "{mistakes:?}");
    assert!(
        mistakes[2].starts_with(
            "m.toml:4:15: grants.credentials has no effect: the component does not import \
             plugind:plugin/credentials@"
        ),
        "{mistakes:?}"
    );
    let used = Grant::ALL.iter().filter_map(|grant| grant.imports().next()?.versions().next());
    // A draft has no further versions.
    let version = |import: String| match import.contains('-') {
        true => import,
        false => format!("{import}.0"),
    };
    let imports: Vec<_> = used.map(version).collect();
    assert!(parse_for(Some(importing(&imports)), all).is_ok());
    let nothing = "[grants]\nstate = false\nread = []\n";
    assert!(parse_for(Some(importing(&[])), nothing).is_ok(), "nothing needs nothing");
}

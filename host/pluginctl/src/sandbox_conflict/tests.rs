use super::*;
use plugind::{config::Document, plugin::manifest::Manifest};

/// The unit as it is shipped, as `systemctl show` prints it.
const SHIPPED: &str = "PrivateNetwork=yes\nNetworkNamespacePath=\nJoinsNamespaceOf=\n\
    RestrictAddressFamilies=AF_UNIX\nIPAddressDeny=0.0.0.0/0 ::/0\nIPAddressAllow=\nProtectHome=yes\n\
    RootDirectory=/usr/lib/plugind/root\nBindReadOnlyPaths=/etc/plugind:/etc/plugind:rbind\n\
    PrivateTmp=yes\nProtectSystem=strict\nDynamicUser=yes\nStateDirectory=plugind\nReadWritePaths=\n";

/// The conflicts that are reported for these grants of the plugin `a`, and the drop-in.
fn conflicts_of(grants: &str, shown: &str, files: &str) -> (Vec<String>, String) {
    let unit = Unit::parse(&format!("LoadState=loaded\n{shown}"), Some(files)).unwrap();
    let document = Document::new(Path::new("/p/a.toml"), format!("[grants]\n{grants}\n"));
    let manifest = Manifest::parse(&document).unwrap();
    let mut remedy = DropIn::default();
    let found = find_conflicts(&"a".parse().unwrap(), &manifest.grants, &unit, &mut remedy);
    let lines = found.into_iter().map(|SandboxConflict { reported, at_link }| {
        format!("{}{reported}", if at_link { "link: " } else { "" })
    });
    (lines.collect(), remedy.text().unwrap_or_default())
}

/// The lines of the drop-in alone.
fn remedy(grants: &str, shown: &str) -> Vec<String> {
    let (reported, text) = conflicts_of(grants, shown, "");
    assert_eq!(reported.is_empty(), text.is_empty(), "{reported:?} {text}");
    text.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn for_the_shipped_unit_the_needs_of_each_grant_are_reported() {
    let (reported, text) = conflicts_of(
        "tcp-connect = [\"10.1.2.3:5432\"]\noutgoing-http = [\"api.example:443\"]\n\
         read = [\"/srv/data\", \"/etc/plugind/x\"]\ncredentials = [\"token\"]\nstate = true",
        SHIPPED,
        "[Service]\nDynamicUser=yes\n",
    );
    assert_eq!(
        reported,
        [
            "link: /p/a.toml:4:8: grants.read has /srv/data, to which plugind.service gives the daemon no access: \
             RootDirectory=/usr/lib/plugind/root shows only the paths that are bound into it",
            "link: /p/a.toml:5:15: grants.credentials has token, and plugind.service does not pass the credential \
             plugind.a.token; write LoadCredential=plugind.a.token into the unit, and the value into \
             /etc/credstore/plugind.a.token",
            "link: /p/a.toml:3:17: grants.outgoing-http has api.example:443, to which plugind.service gives the daemon \
             no access: PrivateNetwork=yes gives it no network; RestrictAddressFamilies= excludes AF_INET and \
             AF_INET6; IPAddressDeny= denies the address; /etc/resolv.conf, which resolving its name needs, is hidden: \
             RootDirectory=/usr/lib/plugind/root shows only the paths that are bound into it",
            "link: /p/a.toml:2:15: grants.tcp-connect has 10.1.2.3:5432, to which plugind.service gives the daemon no \
             access: PrivateNetwork=yes gives it no network; RestrictAddressFamilies= excludes AF_INET; \
             IPAddressDeny= denies the address",
        ]
    );
    assert_eq!(
        text,
        "[Service]\nBindReadOnlyPaths=-/srv/data\nLoadCredential=plugind.a.token\n\
         PrivateNetwork=no\nRestrictAddressFamilies=AF_INET AF_INET6\nIPAddressAllow=any\n\
         BindReadOnlyPaths=-/etc/nsswitch.conf\nBindReadOnlyPaths=-/etc/hosts\n\
         BindReadOnlyPaths=-/etc/resolv.conf\nBindReadOnlyPaths=-/run/systemd/resolve\n\
         RestrictAddressFamilies=AF_INET\nIPAddressAllow=10.1.2.3\n"
    );
}

#[test]
fn a_plugin_without_grants_has_no_conflict() {
    assert_eq!(conflicts_of("", SHIPPED, ""), (vec![], String::new()));
}

#[test]
fn absent_and_unknown_values_of_a_unit_cause_no_conflict() {
    let grants =
        "tcp-connect = [\"10.1.2.3:5432\", \"db.example:1\"]\nread = [\"/srv\"]\nstate = true";
    for shown in [
        "",
        "PrivateNetwork=no\nRestrictAddressFamilies=~\nIPAddressDeny=\nRootDirectory=\nStateDirectory=plugind\n",
        "PrivateNetwork=perhaps\nRestrictAddressFamilies=~AF_NETLINK\nIPAddressDeny=some where/33 1.2.3.4/x\n",
        "StateDirectory=\nProtectSystem=no\nDynamicUser=no\n",
        "StateDirectory=\nProtectSystem=strict\nDynamicUser=no\nReadWritePaths=-/var/lib\n",
        "PrivateNetwork=yes\nNetworkNamespacePath=/run/netns/x\n",
        "PrivateNetwork=yes\nJoinsNamespaceOf=other.service\n",
    ] {
        assert_eq!(remedy(grants, shown), [""; 0], "{shown}");
    }
}

#[test]
fn each_conflicting_line_is_answered_with_the_line_that_permits_the_grant() {
    let connect = |to: &str| format!("tcp-connect = [\"{to}\"]");
    for (grants, shown, lines) in [
        (connect("10.1.2.3:1"), "PrivateNetwork=yes", &["PrivateNetwork=no"][..]),
        (connect("10.1.2.3:1"), "RestrictAddressFamilies=AF_UNIX AF_INET", &[]),
        (connect("10.1.2.3:1"), "RestrictAddressFamilies=", &["RestrictAddressFamilies=AF_INET"]),
        (
            connect("10.1.2.3:1"),
            "RestrictAddressFamilies=~AF_INET",
            &["RestrictAddressFamilies=AF_INET"],
        ),
        (
            connect("[::1]:1"),
            "RestrictAddressFamilies=AF_INET",
            &["RestrictAddressFamilies=AF_INET6"],
        ),
        (connect("a.example:1"), "RestrictAddressFamilies=AF_INET", &[]),
        (connect("10.1.2.3:1"), "IPAddressDeny=10.0.0.0/8", &["IPAddressAllow=10.1.2.3"]),
        (connect("10.1.2.3:1"), "IPAddressDeny=::/0 11.0.0.0/8", &[]),
        (connect("10.1.2.3:1"), "IPAddressDeny=0.0.0.0/0\nIPAddressAllow=10.1.2.3/32", &[]),
        (
            connect("10.1.2.3:1"),
            "IPAddressDeny=0.0.0.0/0\nIPAddressAllow=10.1.2.4/32",
            &["IPAddressAllow=10.1.2.3"],
        ),
        (connect("[fd00::1]:1"), "IPAddressDeny=0.0.0.0/0 ::/0\nIPAddressAllow=fd00::/8", &[]),
        (connect("a.example:1"), "IPAddressDeny=0.0.0.0/0 ::/0", &["IPAddressAllow=any"]),
        (connect("a.example:1"), "IPAddressDeny=0.0.0.0/0 ::/0\nIPAddressAllow=10.0.0.0/8", &[]),
        (connect("a.example:1"), "IPAddressDeny=10.0.0.0/8", &[]),
        (
            "read = [\"/home/me\"]".into(),
            "ProtectHome=yes",
            &["ProtectHome=tmpfs", "BindReadOnlyPaths=-/home/me"],
        ),
        (
            "read = [\"/tmp/a b:50%\"]".into(),
            "PrivateTmp=yes",
            &["BindReadOnlyPaths=\"-/tmp/a b\\:50%%\""],
        ),
        (
            "state = true".into(),
            "StateDirectory=\nDynamicUser=yes",
            &["StateDirectory=plugind", "StateDirectoryMode=0700"],
        ),
    ] {
        assert_eq!(remedy(&grants, shown), lines, "{grants} {shown}");
    }
}

#[test]
fn a_plugin_is_linked_where_only_the_network_is_missing() {
    let (reported, _) = conflicts_of(
        "tcp-connect = [\"10.1.2.3:1\"]",
        "PrivateNetwork=yes\nRestrictAddressFamilies=~",
        "",
    );
    assert!(reported[0].starts_with("/p/a.toml:2:15: "), "{reported:?}");
}

/// The conflicts that are reported for these settings, and the drop-in.
fn conflicts_of_settings(settings: &str, shown: &str, files: &str) -> (Vec<String>, String) {
    let unit = Unit::parse(&format!("LoadState=loaded\n{shown}"), Some(files)).unwrap();
    let document = Document::new(Path::new("/p/plugind.toml"), settings.to_owned());
    let settings = Settings::parse(&document).unwrap();
    let mut remedy = DropIn::default();
    let found = find_settings_conflicts(&settings, &unit, &mut remedy);
    let found = found.into_iter().map(|conflict| conflict.reported).collect();
    (found, remedy.text().unwrap_or_default())
}

#[test]
fn servers_and_files_of_the_settings_must_fit_the_unit_as_well() {
    let settings = "[messaging]\nurl = \"nats://10.1.2.3:4222\"\ncredential = \"nats\"\n\
        [keyvalue]\nbackend = \"valkey\"\nurl = \"valkey://10.1.2.3:6379\"\n\
        [[sockets.http.tls]]\ncertificate = \"/etc/letsencrypt/a.pem\"\nkey = \"/etc/plugind/a.key\"\n";
    let (reported, text) = conflicts_of_settings(settings, SHIPPED, "[Service]\n");
    let expected = [
        ("/p/plugind.toml:2:7: messaging.url has 10.1.2.3:4222, to which", "PrivateNetwork=yes"),
        ("/p/plugind.toml:6:7: keyvalue.url has 10.1.2.3:6379, to which", "excludes AF_INET"),
        ("/p/plugind.toml:3:14: messaging.credential has nats, and", "LoadCredential=nats"),
        ("/p/plugind.toml:8:15: sockets.http.tls.certificate has /etc/letsencrypt/a.pem, to", ""),
    ];
    assert_eq!(reported.len(), expected.len(), "{reported:#?}");
    for (reported, (start, part)) in reported.iter().zip(expected) {
        assert!(reported.starts_with(start) && reported.contains(part), "{reported}");
    }
    for line in ["PrivateNetwork=no", "LoadCredential=nats", "=-/etc/letsencrypt/a.pem"] {
        assert!(text.contains(line), "{text}");
    }
    let open = "PrivateNetwork=no\nRestrictAddressFamilies=AF_UNIX AF_INET\n";
    let files = "[Service]\nLoadCredential=nats:/etc/nats\n";
    assert_eq!(conflicts_of_settings(settings, open, files), (Vec::new(), String::new()));
}

//! Passes on requests that have the name and the password of a user (RFC 7617). The plugin behind it gets the name of
//! the user.

use std::sync::OnceLock;

use data_encoding::BASE64;
use plugind_sdk::{
    Lifecycle, StartError, config, credentials,
    middleware::{ErrorCode, Fields, Request, Response, answer, next, with_headers},
};
use subtle::ConstantTimeEq;
use wasip3::exports::http::handler::Guest;

/// The field by which the plugin behind this one learns the user. A client cannot set it.
const USER: &str = "x-forwarded-user";

struct Settings {
    /// The value of `WWW-Authenticate`.
    challenge: String,
    /// Each user as a client sends it: `NAME:PASSWORD`.
    users: Vec<Vec<u8>>,
}

/// `start` reads them, because they never change while the instance exists.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct BasicAuth;

impl Lifecycle for BasicAuth {
    async fn start() -> Result<(), StartError> {
        let realm = config::get("realm");
        let realm = realm.map_err(|error| StartError::Unavailable(error.to_string()))?;
        let realm = realm.unwrap_or_else(|| "plugind".to_owned());
        let settings = read(&realm).map_err(StartError::Configuration)?;
        SETTINGS.get_or_init(|| settings);
        Ok(())
    }
}

fn read(realm: &str) -> Result<Settings, String> {
    if realm.contains(['"', '\\']) || realm.chars().any(char::is_control) {
        return Err(format!(
            "realm must not contain quotes, backslashes or control characters; it is {realm:?}"
        ));
    }
    let users = credentials::get("users").ok_or("grants.credentials must contain \"users\"")?;
    let lines = users.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let lines = lines.enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"));
    let mut users = Vec::new();
    for (nth, line) in lines {
        // The line itself is a secret.
        if matches!(line.iter().position(|byte| *byte == b':'), None | Some(0)) {
            return Err(format!("line {} of the credential users must be NAME:PASSWORD", nth + 1));
        }
        users.push(line.to_vec());
    }
    if users.is_empty() {
        return Err("the credential users must contain a line NAME:PASSWORD".to_owned());
    }
    Ok(Settings { challenge: format!("Basic realm=\"{realm}\", charset=\"UTF-8\""), users })
}

/// The name of the user whose name and password are in the value of `Authorization`, if there is such a user.
fn user<'a>(settings: &'a Settings, authorization: &[u8]) -> Option<&'a [u8]> {
    let (scheme, token) = authorization.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let sent = BASE64.decode(token.trim_ascii()).ok()?;
    // All are compared, each in a time that does not depend on where it differs.
    let compare = |found, known: &'a Vec<u8>| {
        if bool::from(known.as_slice().ct_eq(&sent)) { Some(known) } else { found }
    };
    let known = settings.users.iter().fold(None, compare)?;
    known.split(|byte| *byte == b':').next()
}

impl Guest for BasicAuth {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let settings = SETTINGS.get().expect("start comes before any request");
        let mut fields = request.get_headers().copy_all();
        let sent = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let user = match sent.collect::<Vec<_>>().as_slice() {
            [(_, authorization)] => user(settings, authorization),
            _ => None,
        };
        let Some(user) = user else {
            return answer(
                401,
                &[("www-authenticate", &settings.challenge)],
                "a user is required\n",
            );
        };
        // The plugin behind needs no password, and the client must not be able to set the name of the user.
        let is_ours = |name: &str| {
            name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case(USER)
        };
        fields.retain(|(name, _)| !is_ours(name));
        fields.push((USER.to_owned(), user.to_vec()));
        let fields = Fields::from_list(&fields)
            .map_err(|error| ErrorCode::InternalError(Some(format!("{error:?}"))))?;
        next(with_headers(request, fields)?).await
    }
}

plugind_sdk::export!(BasicAuth);
wasip3::http::service::export!(BasicAuth);

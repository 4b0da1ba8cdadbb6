//! Lets pages of other origins send requests and read responses (the CORS protocol of the Fetch standard).

use std::{collections::HashMap, sync::OnceLock};

use plugind_sdk::{
    Lifecycle, StartError, config,
    middleware::{ErrorCode, Fields, Request, Response, answer, next, with_response_headers},
};
use wasip3::{exports::http::handler::Guest, http::types::Method};

struct Settings {
    /// None: all of them.
    origins: Option<Vec<String>>,
    methods: String,
    headers: Option<String>,
    exposed: Option<String>,
    max_age: String,
    with_credentials: bool,
}

/// `start` reads them, because they never change while the instance exists.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct Cors;

impl Lifecycle for Cors {
    async fn start() -> Result<(), StartError> {
        let config = config::get_all();
        let config = config.map_err(|error| StartError::Unavailable(error.to_string()))?;
        let settings = read(&config.into_iter().collect()).map_err(StartError::Configuration)?;
        SETTINGS.get_or_init(|| settings);
        Ok(())
    }
}

fn read(config: &HashMap<String, String>) -> Result<Settings, String> {
    let get = |key: &str| config.get(key).cloned();
    let origins = get("origins")
        .ok_or("[config] must have origins, as in \"https://app.example\" or \"*\"")?;
    let with_credentials = match get("credentials").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(format!("credentials must be \"true\" or \"false\"; it is {other:?}"));
        }
    };
    let origins = match origins.trim() {
        "*" if with_credentials => {
            return Err("origins must be a list, not \"*\", if credentials is \"true\"".to_owned());
        }
        "*" => None,
        list => Some(list.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()),
    };
    let malformed = |origin: &&String| {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        host.is_none_or(|host| host.is_empty() || host.contains('/'))
    };
    if let Some(origin) = origins.iter().flatten().find(malformed) {
        return Err(format!(
            "an origin must be a scheme and a host, as in \"https://app.example\"; one is {origin:?}"
        ));
    }
    let max_age = get("max-age-sec").unwrap_or_else(|| "600".to_owned());
    if max_age.parse::<u32>().is_err() {
        return Err(format!("max-age-sec must be a whole number; it is {max_age:?}"));
    }
    let list = |key: &str| match get(key) {
        Some(text) if !is_list_of_tokens(&text) => Err(format!(
            "{key} must be names with a comma between two, as in \"GET, PUT\"; it is {text:?}"
        )),
        text => Ok(text),
    };
    Ok(Settings {
        origins,
        methods: list("methods")?.unwrap_or_else(|| "GET, HEAD, POST".to_owned()),
        headers: list("headers")?,
        exposed: list("expose-headers")?,
        max_age,
        with_credentials,
    })
}

/// Whether a text is a list of methods or of names of fields, which are tokens of RFC 9110.
fn is_list_of_tokens(text: &str) -> bool {
    let is_token = |name: &str| {
        let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !name.is_empty() && name.bytes().all(may_be)
    };
    text.split(',').all(|name| is_token(name.trim_matches([' ', '\t'])))
}

/// The value of a field of which there is one.
fn field(fields: &[(String, Vec<u8>)], name: &str) -> Option<String> {
    let mut all = fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    let (_, value) = all.next()?;
    if all.next().is_some() {
        return None;
    }
    String::from_utf8(value.clone()).ok()
}

impl Settings {
    /// The fields that let the pages of an origin read a response.
    fn allow(&self, origin: &str) -> Vec<(&'static str, String)> {
        let allowed = match &self.origins {
            None => "*".to_owned(),
            Some(origins) if origins.iter().any(|known| known == origin) => origin.to_owned(),
            Some(_) => return Vec::new(),
        };
        let mut fields = vec![("access-control-allow-origin", allowed)];
        if self.with_credentials {
            fields.push(("access-control-allow-credentials", "true".to_owned()));
        }
        fields
    }

    /// The answer to a preflight request from a page of an origin.
    fn preflight(&self, origin: &str) -> Result<Response, ErrorCode> {
        let mut fields = self.allow(origin);
        if !fields.is_empty() {
            fields.push(("access-control-allow-methods", self.methods.clone()));
            fields.extend(
                self.headers.clone().map(|headers| ("access-control-allow-headers", headers)),
            );
            fields.push(("access-control-max-age", self.max_age.clone()));
        }
        fields.push((
            "vary",
            "origin, access-control-request-method, access-control-request-headers".to_owned(),
        ));
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        answer(204, &fields, "")
    }
}

impl Guest for Cors {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let settings = SETTINGS.get().expect("start comes before any request");
        let fields = request.get_headers().copy_all();
        let origin = field(&fields, "origin");
        if let Some(origin) = &origin
            && matches!(request.get_method(), Method::Options)
            && field(&fields, "access-control-request-method").is_some()
        {
            return settings.preflight(origin);
        }
        let response = next(request).await?;
        let mut fields = response.get_headers().copy_all();
        // Fields of the plugin behind must not allow origins that these settings do not allow.
        fields.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("access-control-"));
        let allowed = origin.map(|origin| settings.allow(&origin)).unwrap_or_default();
        let exposed = settings.exposed.clone().filter(|_| !allowed.is_empty());
        let exposed = exposed.map(|exposed| ("access-control-expose-headers", exposed));
        let added = allowed.into_iter().chain(exposed).chain([("vary", "origin".to_owned())]);
        fields.extend(added.map(|(name, value)| (name.to_owned(), value.into_bytes())));
        let fields = Fields::from_list(&fields)
            .map_err(|error| ErrorCode::InternalError(Some(format!("{error:?}"))))?;
        with_response_headers(response, fields)
    }
}

plugind_sdk::export!(Cors);
wasip3::http::service::export!(Cors);

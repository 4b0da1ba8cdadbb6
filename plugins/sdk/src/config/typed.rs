//! The configuration as a type of the plugin's own.

use crate::StartError;
use serde::de::{
    DeserializeOwned, Deserializer, IntoDeserializer, Visitor,
    value::{MapDeserializer, SeqDeserializer},
};
use std::fmt::Display;

/// The reason that a configuration is refused, in one line for the operator: it names the key and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

/// Reads `[config]` of the manifest as a `T`. `start` can return the error as it is.
///
/// # Errors
/// [`StartError::Configuration`] if a key is missing, if a value is not one of its type, or if a key is unknown and `T`
/// has `serde(deny_unknown_fields)`. Without that attribute, unknown keys are ignored.
/// [`StartError::Unavailable`] if the configuration cannot be read.
pub fn read<T: DeserializeOwned>() -> Result<T, StartError> {
    let pairs = super::get_all().map_err(|error| StartError::Unavailable(error.to_string()))?;
    parse(pairs).map_err(|error| StartError::Configuration(error.to_string()))
}

/// Makes a `T` of keys and values, as [`read`] does. Tests can call it on any machine.
///
/// A number, a `bool` or a word of an `enum` is read from its text, and a list from texts with commas between them.
/// A field that is an `Option` may be missing. `serde(flatten)` is not supported, because it loses the types.
///
/// ```
/// use plugind_sdk::config;
/// use serde::Deserialize;
///
/// #[derive(Debug, Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     port: u16,
///     hosts: Vec<String>,
///     mode: Mode,
///     verbose: Option<bool>,
/// }
///
/// #[derive(Debug, Deserialize, PartialEq)]
/// #[serde(rename_all = "lowercase")]
/// enum Mode {
///     Fast,
///     Safe,
/// }
///
/// let read = |pairs: &[(&str, &str)]| {
///     let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string()));
///     config::parse::<Settings>(pairs)
/// };
/// let settings = read(&[("port", "80"), ("hosts", "a, b"), ("mode", "safe")]).unwrap();
/// assert_eq!((settings.port, settings.mode, settings.verbose), (80, Mode::Safe, None));
/// assert_eq!(settings.hosts, ["a", "b"]);
///
/// for (pairs, message) in [
///     (&[("port", "80000")][..], "[config] port must be a whole number from 0 to 65535; it is \"80000\""),
///     (&[("verbose", "yes")], "[config] verbose must be true or false; it is \"yes\""),
///     (&[("mode", "slow")], "[config] mode must be one of: fast, safe; it is \"slow\""),
///     (&[("port", "80")], "[config] must have hosts"),
///     (&[("prot", "80")], "[config] must have only these keys: port, hosts, mode, verbose; it has prot"),
/// ] {
///     assert_eq!(read(pairs).unwrap_err().to_string(), message);
/// }
/// ```
///
/// # Errors
/// The first key that is missing or whose value is not one of its type, or that is unknown if `T` has
/// `serde(deny_unknown_fields)`.
pub fn parse<T: DeserializeOwned>(
    pairs: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let values = pairs.into_iter().map(|(key, text)| {
        let value = Value { key: key.clone(), text };
        (key, value)
    });
    T::deserialize(MapDeserializer::new(values))
}

/// One value, with its key for messages.
struct Value {
    key: String,
    text: String,
}

impl Display for ConfigError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "[config] {}", self.0)
    }
}

impl std::error::Error for ConfigError {}

impl serde::de::Error for ConfigError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self(format!("must have {field}"))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self(format!("must have only these keys: {}; it has {field}", known.join(", ")))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self(format!("must be one of: {}", known.join(", ")))
    }
}

impl Value {
    fn error(&self, must: impl Display) -> ConfigError {
        ConfigError(format!("{} {must}; it is {:?}", self.key, self.text))
    }

    /// Gives an error of a visitor the key and the value.
    fn visit<T>(
        &self,
        visited: impl FnOnce(String) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        visited(self.text.clone()).map_err(|error| self.error(error.0))
    }
}

impl IntoDeserializer<'_, ConfigError> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Methods that read a type from its text, each with what the text must be.
macro_rules! parsed {
    ($($method:ident: $type:ty, $visit:ident, $must:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
            match self.text.trim().parse::<$type>() {
                Ok(value) => self.visit(|_| visitor.$visit(value)),
                Err(_) => Err(self.error($must)),
            }
        }
    )*};
}

macro_rules! whole {
    ($type:ty) => {
        format_args!("must be a whole number from {} to {}", <$type>::MIN, <$type>::MAX)
    };
}

impl<'de> Deserializer<'de> for Value {
    type Error = ConfigError;

    parsed! {
        deserialize_bool: bool, visit_bool, "must be true or false";
        deserialize_char: char, visit_char, "must be one character";
        deserialize_f32: f32, visit_f32, "must be a number";
        deserialize_f64: f64, visit_f64, "must be a number";
        deserialize_i8: i8, visit_i8, whole!(i8);
        deserialize_i16: i16, visit_i16, whole!(i16);
        deserialize_i32: i32, visit_i32, whole!(i32);
        deserialize_i64: i64, visit_i64, whole!(i64);
        deserialize_u8: u8, visit_u8, whole!(u8);
        deserialize_u16: u16, visit_u16, whole!(u16);
        deserialize_u32: u32, visit_u32, whole!(u32);
        deserialize_u64: u64, visit_u64, whole!(u64);
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        self.visit(|text| visitor.visit_string(text))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        let items = self.text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let items = items.map(|item| Self { key: self.key.clone(), text: item.to_owned() });
        visitor.visit_seq(SeqDeserializer::new(items))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        self.visit(|text| visitor.visit_enum(text.into_deserializer()))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

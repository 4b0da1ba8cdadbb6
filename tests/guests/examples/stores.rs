//! Does with a store what the path says, as `/set/KEY/VALUE`; behind `/in/STORE`, with a store that plugins share.

use plugind_sdk::keyvalue::{
    atomics::{self, Cas, CasError},
    batch,
    store::{self, Bucket, Error},
};
use plugind_test_guests::number;

fn text(value: Option<Vec<u8>>) -> String {
    value.map_or("none".to_owned(), |value| String::from_utf8_lossy(&value).into_owned())
}

fn swap(cas: Cas, value: &str) -> Result<String, Error> {
    match atomics::swap(cas, value.as_bytes()) {
        Ok(()) => Ok("swapped".to_owned()),
        Err(CasError::StoreError(error)) => Err(error),
        Err(CasError::CasFailed(next)) => {
            let now = text(next.current()?);
            Ok(format!("{now} instead; then {}", swap(next, value)?))
        }
    }
}

/// Adds one by comparing and swapping, until nobody else was faster.
fn cas_add(mut cas: Cas) -> Result<String, Error> {
    loop {
        let now = cas.current()?.and_then(|now| String::from_utf8(now).ok()?.parse::<u64>().ok());
        let sum = (now.unwrap_or_default() + 1).to_string();
        match atomics::swap(cas, sum.as_bytes()) {
            Ok(()) => return Ok(sum),
            Err(CasError::StoreError(error)) => return Err(error),
            Err(CasError::CasFailed(next)) => cas = next,
        }
    }
}

fn all_keys(bucket: &Bucket) -> Result<Vec<String>, Error> {
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let page = bucket.list_keys(cursor.as_deref())?;
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(keys);
        }
    }
}

fn done(done: Result<(), Error>) -> Result<String, Error> {
    done.map(|()| "done".to_owned())
}

fn act(bucket: &Bucket, words: &[&str]) -> Result<String, Error> {
    match *words {
        ["set", key, value] => done(bucket.set(key, value.as_bytes())),
        ["fill", key, bytes] => {
            let bytes = usize::try_from(number(bytes)).unwrap_or_default();
            done(bucket.set(key, &vec![b'x'; bytes]))
        }
        ["get", key] => Ok(text(bucket.get(key)?)),
        ["exists", key] => Ok(bucket.exists(key)?.to_string()),
        ["delete", key] => done(bucket.delete(key)),
        ["keys"] => Ok(all_keys(bucket)?.join(" ")),
        ["count"] => Ok(all_keys(bucket)?.len().to_string()),
        ["add", key, delta] => {
            let delta = delta.parse().unwrap_or_default();
            Ok(atomics::increment(bucket, key, delta)?.to_string())
        }
        ["cas-add", key] => cas_add(Cas::new(bucket, key)?),
        ["swap", key, value] => swap(Cas::new(bucket, key)?, value),
        // Somebody else is faster.
        ["swap-late", key, value] => {
            let cas = Cas::new(bucket, key)?;
            bucket.set(key, b"another")?;
            swap(cas, value)
        }
        ["set-many", prefix, count] => {
            let keys: Vec<_> = (0..number(count)).map(|nth| format!("{prefix}{nth}")).collect();
            let entries: Vec<_> = keys.iter().map(|key| (&**key, key.as_bytes())).collect();
            done(batch::set_many(bucket, &entries))
        }
        ["get-many", ref keys @ ..] => {
            let values = batch::get_many(bucket, keys)?;
            let shown = values.into_iter().map(|value| text(value.map(|(_, value)| value)));
            Ok(shown.collect::<Vec<_>>().join(" "))
        }
        ["delete-many", ref keys @ ..] => done(batch::delete_many(bucket, keys)),
        _ => Ok("fine".to_owned()),
    }
}

async fn respond(words: &[&str]) -> String {
    let (name, words) = match words {
        ["in", name, rest @ ..] => (*name, rest),
        _ => ("default", words),
    };
    match store::open(name).and_then(|bucket| act(&bucket, words)) {
        Ok(answer) => answer,
        Err(Error::NoSuchStore) => "error: no such store".to_owned(),
        Err(Error::AccessDenied) => "error: access denied".to_owned(),
        Err(Error::Other(error)) => format!("error: {error}"),
    }
}

plugind_test_guests::serve!(respond);

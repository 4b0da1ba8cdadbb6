//! Keeps as many resources of the host as a request to `/KIND/COUNT` says, by WASI 0.3; any other is answered.

use plugind_test_guests::{
    fine, number,
    wasip3::http::types::{Fields, Method, Request},
};
use std::mem::forget;
use wasip3::{wit_future, wit_stream};

/// Most of what headers may have at the most.
const LARGE: usize = 100 << 10;
/// Limit of the length of a path.
const PATH: usize = 60 << 10;

async fn respond(words: &[&str]) -> String {
    let [kind, count] = words else { return fine(words).await };
    let mut kept = 0_u64;
    for _ in 0..number(count) {
        let done = match *kind {
            "fields" => fields(),
            "small" => small(),
            "requests" => request(),
            "methods" => method(),
            "streams" => stream(),
            _ => false,
        };
        kept += u64::from(done);
    }
    format!("kept {kept}")
}

fn fields() -> bool {
    let fields = Fields::new();
    let done = fields.append("x", &vec![b'x'; LARGE]).is_ok();
    forget(fields);
    done
}

/// Headers of nothing but their names.
fn small() -> bool {
    let fields = Fields::new();
    let done = (0..500).all(|nth| fields.append(&format!("x{nth}"), b"").is_ok());
    forget(fields);
    done
}

fn new_request() -> Request {
    let (_, trailers) = wit_future::new(|| Ok(None));
    Request::new(Fields::new(), None, trailers, None).0
}

fn request() -> bool {
    let request = new_request();
    let done = request.set_path_with_query(Some(&"/".repeat(PATH))).is_ok();
    forget(request);
    done
}

fn method() -> bool {
    let request = new_request();
    let done = request.set_method(&Method::Other("X".repeat(1 << 20))).is_ok();
    forget(request);
    done
}

fn stream() -> bool {
    let (writer, reader) = wit_stream::new::<u8>();
    forget((writer, reader));
    true
}

plugind_test_guests::serve!(respond);

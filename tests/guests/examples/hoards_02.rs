//! Keeps as many resources of the host as a request to `/KIND/COUNT` says, by WASI 0.2; any other is answered.

use plugind_test_guests::{
    number,
    wasip2::http::types::{Fields, Method, OutgoingRequest, OutgoingResponse},
};
use std::mem::forget;

/// Most of what headers may have at the most.
const LARGE: usize = 100 << 10;
/// Limit of the length of a path.
const PATH: usize = 60 << 10;

fn respond(words: &[&str]) -> String {
    let [kind, count] = words else { return "fine".to_owned() };
    let mut kept = 0_u64;
    for _ in 0..number(count) {
        let done = match *kind {
            "fields" => fields(),
            "bodies" => body(),
            "requests" => request(),
            "methods" => method(),
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

/// A body that is written to, of a response that is never sent.
fn body() -> bool {
    let response = OutgoingResponse::new(Fields::new());
    let Ok(body) = response.body() else { return false };
    let Ok(stream) = body.write() else { return false };
    let mut written = false;
    while let Ok(permit @ 1..) = stream.check_write() {
        let length = usize::try_from(permit).unwrap_or_default();
        written |= stream.write(&vec![b'x'; length]).is_ok();
    }
    forget((response, body, stream));
    written
}

fn request() -> bool {
    let request = OutgoingRequest::new(Fields::new());
    let done = request.set_path_with_query(Some(&"/".repeat(PATH))).is_ok();
    forget(request);
    done
}

fn method() -> bool {
    let request = OutgoingRequest::new(Fields::new());
    let done = request.set_method(&Method::Other("X".repeat(1 << 20))).is_ok();
    forget(request);
    done
}

plugind_test_guests::serve_02!(respond);

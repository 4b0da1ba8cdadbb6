// Greets everyone who asks over HTTP.
#include "greeting.h"
#include "support.h"

// Answers with a text.
static void respond(wasi_http_types_own_response_outparam_t out, const char *text, size_t length) {
    wasi_http_types_own_outgoing_response_t response =
        wasi_http_types_constructor_outgoing_response(wasi_http_types_constructor_fields());
    wasi_http_types_own_outgoing_body_t body;
    wasi_http_types_method_outgoing_response_body(wasi_http_types_borrow_outgoing_response(response), &body);
    wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = response};
    wasi_http_types_static_response_outparam_set(out, &result);

    wasi_http_types_own_output_stream_t stream;
    wasi_io_streams_stream_error_t failure;
    wasi_http_types_error_code_t error;
    wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &stream);
    // One call takes at most 4096 bytes.
    while (length > 0) {
        size_t part = length < 4096 ? length : 4096;
        plugin_list_u8_t bytes = {(uint8_t *)text, part};
        if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(wasi_io_streams_borrow_output_stream(stream), &bytes, &failure)) {
            break; // the client has gone
        }
        text += part;
        length -= part;
    }
    wasi_io_streams_output_stream_drop_own(stream);
    wasi_http_types_static_outgoing_body_finish(body, NULL, &error);
}

void exports_wasi_http_incoming_handler_handle(
    wasi_http_types_own_incoming_request_t request, wasi_http_types_own_response_outparam_t out) {
    char path[1024] = "/", answer[1280];
    plugin_string_t target;
    if (wasi_http_types_method_incoming_request_path_with_query(wasi_http_types_borrow_incoming_request(request), &target)) {
        const char *text = (const char *)target.ptr;
        snprintf(path, sizeof path, "%.*s", (int)fitting(text, target.len, sizeof path - 1), text);
        plugin_string_free(&target);
    }
    log_entry(PLUGIND_PLUGIN_JOURNAL_PRIORITY_DEBUG, "request", "path", path);
    respond(out, answer, greet(answer, sizeof answer, greeting, path, strlen(path)));
    wasi_http_types_incoming_request_drop_own(request);
}

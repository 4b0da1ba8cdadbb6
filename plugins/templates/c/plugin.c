// Greets everyone who asks.
#include "build/plugin.h"
#include "greeting.h"

#include <stdlib.h>

// From [config] of the manifest. It does not change while the instance exists.
static char greeting[128] = "Hello";

// Writes an entry with one field to the journal.
static void log_entry(plugind_plugin_journal_priority_t priority, const char *message, const char *name, const char *value) {
    plugin_string_t text;
    plugin_tuple2_string_string_t field;
    plugin_string_set(&text, message);
    plugin_string_set(&field.f0, name);
    plugin_string_set(&field.f1, value);
    plugin_list_tuple2_string_string_t fields = {&field, 1};
    plugind_plugin_journal_send(priority, &text, &fields);
}

bool exports_plugind_plugin_lifecycle_start(exports_plugind_plugin_lifecycle_start_error_t *err) {
    plugin_string_t key;
    plugin_option_string_t value;
    wasi_config_store_error_t failure;
    plugin_string_set(&key, "greeting");
    if (wasi_config_store_get(&key, &value, &failure) && value.is_some) {
        snprintf(greeting, sizeof greeting, "%.*s", (int)value.val.len, (const char *)value.val.ptr);
        plugin_option_string_free(&value);
    }
    if (greeting[0] == '\0') {
        err->tag = EXPORTS_PLUGIND_PLUGIN_LIFECYCLE_START_ERROR_CONFIGURATION;
        plugin_string_dup(&err->val.configuration, "[config] greeting is empty");
        return false;
    }
    log_entry(PLUGIND_PLUGIN_JOURNAL_PRIORITY_INFO, "greeting loaded", "greeting", greeting);
    return true;
}

void exports_plugind_plugin_lifecycle_health(exports_plugind_plugin_lifecycle_condition_t *ret) {
    ret->tag = EXPORTS_PLUGIND_PLUGIN_LIFECYCLE_CONDITION_HEALTHY;
}

void exports_plugind_plugin_lifecycle_stop(exports_plugind_plugin_lifecycle_stop_reason_t reason) {
    char number[4];
    snprintf(number, sizeof number, "%d", reason);
    log_entry(PLUGIND_PLUGIN_JOURNAL_PRIORITY_INFO, "stopping", "reason", number);
}

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
    char path[1024] = "/", text[1280];
    plugin_string_t target;
    if (wasi_http_types_method_incoming_request_path_with_query(wasi_http_types_borrow_incoming_request(request), &target)) {
        snprintf(path, sizeof path, "%.*s", (int)target.len, (const char *)target.ptr);
        plugin_string_free(&target);
    }
    log_entry(PLUGIND_PLUGIN_JOURNAL_PRIORITY_DEBUG, "request", "path", path);
    respond(out, text, greet(text, sizeof text, greeting, path));
    wasi_http_types_incoming_request_drop_own(request);
}

// Greets everyone whose name comes as a line of a connection.
#include "greeting.h"
#include "support.h"

// The longest line, after which a connection is reset.
#define LINE_MAX 1024

// Answers one line. Returns false if the client has disconnected.
static bool answer(plugind_plugin_connections_borrow_connection_t connection, const char *line, size_t length) {
    char text[LINE_MAX + 256];
    plugind_plugin_connections_connection_error_t failure;
    size_t written = greet(text, sizeof text, greeting, line, length);
    plugin_list_u8_t bytes = {(uint8_t *)text, written};
    return plugind_plugin_connections_method_connection_write(connection, &bytes, &failure);
}

// Serves the connection, and returns whether every line was short enough.
static bool serve(plugind_plugin_connections_borrow_connection_t connection) {
    char line[LINE_MAX];
    size_t length = 0;
    plugin_list_u8_t bytes;
    plugind_plugin_connections_connection_error_t failure;
    while (plugind_plugin_connections_method_connection_read(connection, 65536, &bytes, &failure)) {
        bool is_open = bytes.len > 0, is_short = true;
        for (size_t i = 0; i < bytes.len && is_open && is_short; i++) {
            if (bytes.ptr[i] == '\n') {
                is_open = answer(connection, line, length);
                length = 0;
            } else if (length < sizeof line) {
                line[length++] = (char)bytes.ptr[i];
            } else {
                is_short = false;
            }
        }
        plugin_list_u8_free(&bytes);
        if (!is_open || !is_short) return is_short;
    }
    return true;
}

bool exports_plugind_plugin_connection_handler_handle(
    exports_plugind_plugin_connection_handler_own_connection_t connection, plugin_string_t *err) {
    bool is_served = serve(plugind_plugin_connections_borrow_connection(connection));
    plugind_plugin_connections_connection_drop_own(connection);
    if (!is_served) plugin_string_dup(err, "a line is too long");
    return is_served;
}

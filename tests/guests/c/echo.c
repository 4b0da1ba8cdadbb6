/* Sends back what it gets, in C: with bindings by `wit-bindgen c --sync=all`, read and write are functions that block,
   and so are receive and send. */
#include <string.h>

#include "echo.h"

bool exports_plugind_plugin_connection_handler_handle(
    exports_plugind_plugin_connection_handler_own_connection_t connection, echo_string_t *error)
{
    plugind_plugin_connections_borrow_connection_t self =
        plugind_plugin_connections_borrow_connection(connection);
    echo_list_u8_t bytes;
    plugind_plugin_connections_connection_error_t why;
    bool is_done = false;

    while (!is_done && plugind_plugin_connections_method_connection_read(self, 65536, &bytes, &why)) {
        is_done = bytes.len == 0;
        if (bytes.len == 5 && memcmp(bytes.ptr, "fail\n", 5) == 0) {
            echo_list_u8_free(&bytes);
            plugind_plugin_connections_connection_drop_own(connection);
            echo_string_dup(error, "asked to fail");
            return false;
        }
        if (!is_done)
            is_done = !plugind_plugin_connections_method_connection_write(self, &bytes, &why);
        echo_list_u8_free(&bytes);
    }
    plugind_plugin_connections_connection_drop_own(connection);
    return true;
}

bool exports_plugind_plugin_datagram_handler_handle(
    echo_string_t *socket, exports_plugind_plugin_datagram_handler_peer_t *peer, echo_list_u8_t *datagram,
    echo_list_u8_t *answer)
{
    echo_string_free(socket);
    exports_plugind_plugin_datagram_handler_peer_free(peer);
    *answer = *datagram;
    return true;
}

bool exports_plugind_plugin_websocket_handler_handle(
    exports_plugind_plugin_websocket_handler_upgrade_request_t *request,
    exports_plugind_plugin_websocket_handler_own_websocket_t socket, echo_string_t *error)
{
    plugind_plugin_websockets_borrow_websocket_t self = plugind_plugin_websockets_borrow_websocket(socket);
    plugind_plugin_websockets_message_t message;
    plugind_plugin_websockets_websocket_error_t why;
    bool is_open = plugind_plugin_websockets_method_websocket_accept(self, NULL, &why);

    (void)error;
    while (is_open && plugind_plugin_websockets_method_websocket_receive(self, &message, &why)) {
        is_open = message.tag != PLUGIND_PLUGIN_WEBSOCKETS_MESSAGE_CLOSE &&
            plugind_plugin_websockets_method_websocket_send(self, &message, &why);
        plugind_plugin_websockets_message_free(&message);
    }
    exports_plugind_plugin_websocket_handler_upgrade_request_free(request);
    plugind_plugin_websockets_websocket_drop_own(socket);
    return true;
}

// Greets everyone whose name comes as a message of a WebSocket.
#include "greeting.h"
#include "support.h"

#include <stdlib.h>

// Answers one message. Returns false if the WebSocket has ended.
static bool answer(
    plugind_plugin_websockets_borrow_websocket_t socket, const plugind_plugin_websockets_message_t *message) {
    if (message->tag == PLUGIND_PLUGIN_WEBSOCKETS_MESSAGE_CLOSE) return false;
    if (message->tag != PLUGIND_PLUGIN_WEBSOCKETS_MESSAGE_TEXT) return true;
    const plugin_string_t *name = &message->val.text;
    size_t size = name->len + sizeof greeting + 16;
    char *text = malloc(size);
    if (text == NULL) return false;
    plugind_plugin_websockets_websocket_error_t failure;
    plugind_plugin_websockets_message_t reply = {.tag = PLUGIND_PLUGIN_WEBSOCKETS_MESSAGE_TEXT};
    reply.val.text.ptr = (uint8_t *)text;
    reply.val.text.len = greet(text, size, greeting, (const char *)name->ptr, name->len);
    bool is_sent = plugind_plugin_websockets_method_websocket_send(socket, &reply, &failure);
    free(text);
    return is_sent;
}

bool exports_plugind_plugin_websocket_handler_handle(
    exports_plugind_plugin_websocket_handler_upgrade_request_t *request,
    exports_plugind_plugin_websocket_handler_own_websocket_t socket, plugin_string_t *err) {
    (void)err;
    plugind_plugin_websockets_borrow_websocket_t self = plugind_plugin_websockets_borrow_websocket(socket);
    plugind_plugin_websockets_websocket_error_t failure;
    plugind_plugin_websockets_message_t message;
    bool is_open = plugind_plugin_websockets_method_websocket_accept(self, NULL, &failure);
    while (is_open && plugind_plugin_websockets_method_websocket_receive(self, &message, &failure)) {
        is_open = answer(self, &message);
        plugind_plugin_websockets_message_free(&message);
    }
    exports_plugind_plugin_websocket_handler_upgrade_request_free(request);
    plugind_plugin_websockets_websocket_drop_own(socket);
    return true;
}

// Greets everyone whose name comes as a datagram.
#include "greeting.h"
#include "support.h"

#include <stdlib.h>

// The sender of a UDP datagram can be forged, so an answer must not be much longer than its question.
bool exports_plugind_plugin_datagram_handler_handle(
    plugin_string_t *socket, exports_plugind_plugin_datagram_handler_peer_t *peer, plugin_list_u8_t *datagram,
    plugin_list_u8_t *ret) {
    size_t size = datagram->len + sizeof greeting + 16;
    char *text = malloc(size);
    bool is_answered = text != NULL;
    if (is_answered) {
        // The host frees it.
        ret->len = greet(text, size, greeting, (const char *)datagram->ptr, datagram->len);
        ret->ptr = (uint8_t *)text;
    }
    plugin_string_free(socket);
    exports_plugind_plugin_datagram_handler_peer_free(peer);
    plugin_list_u8_free(datagram);
    return is_answered;
}

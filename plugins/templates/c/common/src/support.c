#include "support.h"

#include <stdio.h>

char greeting[128] = "Hello";

bool load_greeting(void) {
    plugin_string_t key;
    plugin_option_string_t value;
    wasi_config_store_error_t failure;
    plugin_string_set(&key, "greeting");
    bool is_short = true;
    if (wasi_config_store_get(&key, &value, &failure) && value.is_some) {
        is_short = value.val.len < sizeof greeting;
        if (is_short) snprintf(greeting, sizeof greeting, "%.*s", (int)value.val.len, (const char *)value.val.ptr);
        plugin_option_string_free(&value);
    }
    if (!is_short || greeting[0] == '\0') return false;
    log_entry(PLUGIND_PLUGIN_JOURNAL_PRIORITY_INFO, "greeting loaded", "greeting", greeting);
    return true;
}

void log_entry(plugind_plugin_journal_priority_t priority, const char *message, const char *name, const char *value) {
    plugin_string_t text;
    plugin_tuple2_string_string_t field;
    plugin_string_set(&text, message);
    plugin_string_set(&field.f0, name);
    plugin_string_set(&field.f1, value);
    plugin_list_tuple2_string_string_t fields = {&field, 1};
    plugind_plugin_journal_send(priority, &text, &fields);
}

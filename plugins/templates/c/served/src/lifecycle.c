// The lifecycle of an instance: it reads the configuration before it serves.
#include "support.h"

// The reasons in the order of the WIT.
static const char *const reasons[] = {"shutdown", "stop", "restart", "reload", "removed", "idle", "recycle"};

bool exports_plugind_plugin_lifecycle_start(exports_plugind_plugin_lifecycle_start_error_t *err) {
    if (load_greeting()) return true;
    err->tag = EXPORTS_PLUGIND_PLUGIN_LIFECYCLE_START_ERROR_CONFIGURATION;
    plugin_string_dup(&err->val.configuration, "[config] greeting must have 1 to 127 bytes");
    return false;
}

void exports_plugind_plugin_lifecycle_health(exports_plugind_plugin_lifecycle_condition_t *ret) {
    ret->tag = EXPORTS_PLUGIND_PLUGIN_LIFECYCLE_CONDITION_HEALTHY;
}

void exports_plugind_plugin_lifecycle_stop(exports_plugind_plugin_lifecycle_stop_reason_t reason) {
    log_entry(PLUGIND_PLUGIN_JOURNAL_PRIORITY_INFO, "stopping", "reason", reasons[reason]);
}

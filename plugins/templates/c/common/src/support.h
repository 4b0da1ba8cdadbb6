// The journal and the configuration, as functions of C strings.
#ifndef SUPPORT_H
#define SUPPORT_H

#include "plugin.h"

// From [config] of the manifest. It does not change while the instance exists.
extern char greeting[128];

// Reads the greeting. Returns false if it is empty or too long.
bool load_greeting(void);

// Writes an entry with one field to the journal.
void log_entry(plugind_plugin_journal_priority_t priority, const char *message, const char *name, const char *value);

#endif

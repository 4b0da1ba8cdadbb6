// Package settings reads the configuration of the manifest.
package settings

import (
	"example.com/@NAME@/plugin/imports/plugind_plugin_journal"
	"example.com/@NAME@/plugin/imports/wasi_config_store"
	. "go.bytecodealliance.org/pkg/wit/types"
)

// Greeting is from [config] of the manifest. It does not change while the instance exists.
var Greeting = "Hello"

// Load reads the greeting. It returns false if the greeting is empty.
func Load() bool {
	if configured := wasi_config_store.Get("greeting"); configured.IsOk() {
		Greeting = configured.Ok().SomeOr(Greeting)
	}
	if Greeting == "" {
		return false
	}
	Log(plugind_plugin_journal.Priority_Info, "greeting loaded", "greeting", Greeting)
	return true
}

// Log writes an entry with one field to the journal.
func Log(priority plugind_plugin_journal.Priority, message, name, value string) {
	plugind_plugin_journal.Send(priority, message, []Tuple2[string, string]{{F0: name, F1: value}})
}

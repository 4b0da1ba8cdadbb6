// Package export_plugind_plugin_lifecycle is the lifecycle of an instance: it reads the configuration before it serves.
package export_plugind_plugin_lifecycle

import (
	"example.com/@NAME@/plugin/imports/plugind_plugin_journal"
	. "example.com/@NAME@/plugin/imports/plugind_plugin_lifecycle"
	"example.com/@NAME@/settings"
	. "go.bytecodealliance.org/pkg/wit/types"
)

// The reasons in the order of the WIT.
var reasons = [...]string{"shutdown", "stop", "restart", "reload", "removed", "idle", "recycle"}

// Start is called once, before anything is served.
func Start() Result[Unit, StartError] {
	if !settings.Load() {
		return Err[Unit](MakeStartErrorConfiguration("[config] greeting is empty"))
	}
	return Ok[Unit, StartError](Unit{})
}

// Health is called from time to time.
func Health() Condition {
	return MakeConditionHealthy()
}

// Stop is called once, when nothing more is served.
func Stop(reason StopReason) {
	settings.Log(plugind_plugin_journal.Priority_Info, "stopping", "reason", reasons[reason])
}

// Package export_wasi_http_incoming_handler greets everyone who asks over HTTP.
package export_wasi_http_incoming_handler

import (
	"example.com/@NAME@/greeting"
	"example.com/@NAME@/plugin/imports/plugind_plugin_journal"
	"example.com/@NAME@/plugin/imports/wasi_http_types"
	"example.com/@NAME@/settings"
	"example.com/@NAME@/web"
)

// Handle answers one request.
func Handle(request *wasi_http_types.IncomingRequest, out *wasi_http_types.ResponseOutparam) {
	path := request.PathWithQuery().SomeOr("/")
	settings.Log(plugind_plugin_journal.Priority_Debug, "request", "path", path)
	web.Respond(out, 200, greeting.Greet(settings.Greeting, path))
}

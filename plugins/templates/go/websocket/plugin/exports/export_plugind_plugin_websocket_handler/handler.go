// Package export_plugind_plugin_websocket_handler greets everyone whose name comes as a message of a WebSocket.
package export_plugind_plugin_websocket_handler

import (
	"example.com/@NAME@/greeting"
	. "example.com/@NAME@/plugin/imports/plugind_plugin_websockets"
	"example.com/@NAME@/settings"
	. "go.bytecodealliance.org/pkg/wit/types"
)

// Handle serves a WebSocket until its client closes it.
func Handle(request UpgradeRequest, socket *Websocket) Result[Unit, string] {
	defer socket.Drop()
	if socket.Accept(None[string]()).IsErr() {
		return Ok[Unit, string](Unit{})
	}
	for {
		received := socket.Receive()
		if received.IsErr() || received.Ok().Tag() == Message_Close {
			return Ok[Unit, string](Unit{})
		}
		message := received.Ok()
		if message.Tag() != Message_Text {
			continue
		}
		reply := MakeMessageText(greeting.Greet(settings.Greeting, message.Text()))
		if socket.Send(reply).IsErr() {
			return Ok[Unit, string](Unit{})
		}
	}
}

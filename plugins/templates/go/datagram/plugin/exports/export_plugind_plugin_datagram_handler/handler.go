// Package export_plugind_plugin_datagram_handler greets everyone whose name comes as a datagram.
package export_plugind_plugin_datagram_handler

import (
	"example.com/@NAME@/greeting"
	"example.com/@NAME@/plugin/imports/plugind_plugin_types"
	"example.com/@NAME@/settings"
	. "go.bytecodealliance.org/pkg/wit/types"
)

// Handle answers a datagram. The sender of a UDP datagram can be forged, so an answer must not be much longer than its
// question.
func Handle(socket string, peer plugind_plugin_types.Peer, datagram []byte) Option[[]byte] {
	return Some([]byte(greeting.Greet(settings.Greeting, string(datagram))))
}

// Package export_plugind_plugin_connection_handler greets everyone whose name comes as a line of a connection.
package export_plugind_plugin_connection_handler

import (
	"bytes"

	"example.com/@NAME@/greeting"
	. "example.com/@NAME@/plugin/imports/plugind_plugin_connections"
	"example.com/@NAME@/settings"
	. "go.bytecodealliance.org/pkg/wit/types"
)

const (
	// The longest line, after which a connection is reset.
	lineMax = 1024
	// The most that is read at once.
	readMax = 65536
)

// Handle serves a connection until its client ends it.
func Handle(connection *Connection) Result[Unit, string] {
	defer connection.Drop()
	var rest []byte
	for {
		read := connection.Read(readMax)
		if read.IsErr() || len(read.Ok()) == 0 {
			return Ok[Unit, string](Unit{})
		}
		rest = append(rest, read.Ok()...)
		for {
			line, after, isWhole := bytes.Cut(rest, []byte("\n"))
			if len(line) > lineMax {
				return Err[Unit]("a line is too long")
			}
			if !isWhole {
				break
			}
			rest = after
			if connection.Write([]byte(greeting.Greet(settings.Greeting, string(line)))).IsErr() {
				return Ok[Unit, string](Unit{}) // the client has gone
			}
		}
	}
}

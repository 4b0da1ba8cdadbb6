// Package web is a small layer over wasi:http. It is yours to change.
package web

import (
	"strconv"

	"example.com/@NAME@/plugin/imports/wasi_http_types"
	. "go.bytecodealliance.org/pkg/wit/types"
)

// One call takes at most 4096 bytes.
const pieceMax = 4096

// Respond answers with a text.
func Respond(out *wasi_http_types.ResponseOutparam, status uint16, text string) {
	fields := wasi_http_types.MakeFields()
	fields.Set("content-type", [][]byte{[]byte("text/plain; charset=utf-8")})
	fields.Set("content-length", [][]byte{[]byte(strconv.Itoa(len(text)))})
	response := wasi_http_types.MakeOutgoingResponse(fields)
	response.SetStatusCode(status)
	body := response.Body().Ok()
	wasi_http_types.ResponseOutparamSet(out, Ok[*wasi_http_types.OutgoingResponse, wasi_http_types.ErrorCode](response))

	stream := body.Write().Ok()
	for rest := []byte(text); len(rest) > 0; {
		piece := rest[:min(len(rest), pieceMax)]
		if stream.BlockingWriteAndFlush(piece).IsErr() {
			break // the client has gone
		}
		rest = rest[len(piece):]
	}
	stream.Drop()
	wasi_http_types.OutgoingBodyFinish(body, None[*wasi_http_types.Fields]())
}

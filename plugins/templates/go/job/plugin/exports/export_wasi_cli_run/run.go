// Package export_wasi_cli_run greets the world now and then, in the background. A program that returns is finished, and
// is not run again.
package export_wasi_cli_run

import (
	"fmt"
	"os"
	"time"

	"example.com/@NAME@/greeting"
	"example.com/@NAME@/settings"
	. "go.bytecodealliance.org/pkg/wit/types"
)

const interval = 10 * time.Second

// Run is called once.
func Run() Result[Unit, Unit] {
	if !settings.Load() {
		fmt.Fprintln(os.Stderr, "[config] greeting is empty")
		return Err[Unit](Unit{})
	}
	for {
		// Each line that is printed is an entry of the log.
		fmt.Print(greeting.Greet(settings.Greeting, "world"))
		time.Sleep(interval)
	}
}

// Package greeting makes the answer, as plain Go that runs anywhere.
package greeting

import "strings"

// Greet greets someone: a name, or the path of a request, which begins below the plugin's route.
func Greet(greeting, who string) string {
	who, _, _ = strings.Cut(who, "?")
	name := strings.Trim(who, " /\r\n")
	if name == "" {
		name = "world"
	}
	return greeting + ", " + name + "\n"
}

package greeting

import "testing"

func TestGreet(t *testing.T) {
	for who, want := range map[string]string{
		"/":         "Hello, world\n",
		"Ada\r\n":   "Hello, Ada\n",
		"/Ada/?x":   "Hello, Ada\n",
		"/Grace?/x": "Hello, Grace\n",
	} {
		if got := Greet("Hello", who); got != want {
			t.Errorf("Greet(%q) = %q, want %q", who, got, want)
		}
	}
}

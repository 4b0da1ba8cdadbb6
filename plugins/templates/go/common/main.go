// The plugin. It exports the functions of plugin/exports, which plugind calls.
package main

import _ "example.com/@NAME@/plugin/exports/wit_exports"

func main() {}

module example.com/@NAME@

go 1.25

require go.bytecodealliance.org/pkg v0.4.0

// The packages that the bindings import, without those for async functions, so that no network is needed.
replace go.bytecodealliance.org/pkg => ./witruntime

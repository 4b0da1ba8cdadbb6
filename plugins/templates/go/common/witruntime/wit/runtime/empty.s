// With a file of assembly, the functions of the host may have no body where they are not WebAssembly.

//go:build !cgo

package kumatp

// The package calls the C library libkumatp, so it needs cgo: CGO_ENABLED=1, a C compiler, and the library (pkg-config kumatp).
// Go switches cgo off where it finds no C compiler, and when it builds for another system. The next line stops the build.
var _ = needs_cgo__set_CGO_ENABLED_to_1_and_install_a_C_compiler

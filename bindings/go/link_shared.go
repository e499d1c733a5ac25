//go:build !kumatp_static

package kumatp

// The shared library, where pkg-config finds it.

// #cgo pkg-config: kumatp
import "C"

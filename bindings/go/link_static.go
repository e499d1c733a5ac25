//go:build kumatp_static

package kumatp

// The library inside the program: go build -tags kumatp_static. libkumatp.a has to be in a directory that the linker
// searches; CGO_CFLAGS=-I… and CGO_LDFLAGS=-L… name others.

// #cgo LDFLAGS: -l:libkumatp.a -lgcc_s -lutil -lrt -lpthread -lm -ldl
import "C"

package kumatp

// #include <kumatp.h>
import "C"

import (
	"encoding/json"
	"fmt"
	"syscall"
)

// Status tells how a call ended. A status is an error too, so errors.Is(err, kumatp.ErrPermission) works.
type Status int32

// The statuses of failed calls.
const (
	ErrArgument    Status = C.KUMATP_E_ARGUMENT
	ErrConfig      Status = C.KUMATP_E_CONFIG
	ErrFacts       Status = C.KUMATP_E_FACTS
	ErrUnsupported Status = C.KUMATP_E_UNSUPPORTED
	ErrPermission  Status = C.KUMATP_E_PERMISSION
	ErrConflict    Status = C.KUMATP_E_CONFLICT
	ErrOS          Status = C.KUMATP_E_OS
	ErrProgram     Status = C.KUMATP_E_PROGRAM
	ErrInternal    Status = C.KUMATP_E_INTERNAL
)

// Error returns the name of the status.
func (s Status) Error() string {
	return C.GoString(C.kumatp_status_name(C.kumatp_status(s)))
}

// Problem is one thing that is wrong with a document.
type Problem struct {
	Path     string `json:"path"`     // the key, such as "redirect.inbound.port"
	Value    string `json:"value"`    // as it was given
	Expected string `json:"expected"` // what would be right
}

// Error says why a call failed. It holds nothing of the C library.
type Error struct {
	Status   Status
	Message  string
	Field    string        // the key, fact or parameter that it is about; may be empty
	Errno    syscall.Errno // what the operating system said; 0 if it was not involved
	Problems []Problem     // of an invalid document, all of them
}

// Error returns the message: field, offending value, and what would be right.
func (e *Error) Error() string {
	return "kumatp: " + e.Message
}

// Unwrap makes errors.Is work with a Status and with a syscall.Errno.
func (e *Error) Unwrap() []error {
	if e.Errno == 0 {
		return []error{e.Status}
	}
	return []error{e.Status, e.Errno}
}

// take copies the error of a failed call and frees it.
func take(status C.kumatp_status, err *C.kumatp_error) error {
	if status == C.KUMATP_OK {
		return nil
	}
	defer C.kumatp_error_free(err)
	made := &Error{
		Status:  Status(status),
		Message: C.GoString(C.kumatp_error_message(err)),
		Errno:   syscall.Errno(C.kumatp_error_errno(err)),
	}
	if field := C.kumatp_error_field(err); field != nil {
		made.Field = C.GoString(field)
	}
	var out *C.kumatp_text
	if C.kumatp_error_to_json(err, &out, nil) == C.KUMATP_OK {
		var document struct{ Problems []Problem }
		all := C.GoStringN(C.kumatp_text_data(out), C.int(C.kumatp_text_len(out)))
		C.kumatp_text_free(out)
		if err := json.Unmarshal([]byte(all), &document); err != nil {
			return fmt.Errorf("%w (and its problems cannot be read: %v)", made, err)
		}
		made.Problems = document.Problems
	}
	return made
}

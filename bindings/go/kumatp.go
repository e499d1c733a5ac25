// Package kumatp makes, shows, installs and removes the transparent-proxy rules of the Kuma service mesh.
//
// A [Config] and [Facts] make a [Plan]; a plan is rendered, or applied to a network namespace. All three are immutable and
// may be used by any number of goroutines at once. Each holds memory of the C library: Close gives it back, and the garbage
// collector does for whoever forgets. No goroutine has to be locked to its thread: work in a network namespace is done by
// a thread of the library's own.
package kumatp

/*
#include <kumatp.h>

// A Go string has a length and no NUL, so it is handed over as it is: nothing is copied, and C keeps nothing.
static const char *data(_GoString_ s) { return _GoStringPtr(s); }
static size_t len(_GoString_ s) { return _GoStringLen(s); }

static kumatp_status config_parse(_GoString_ text, uint32_t format, kumatp_config **out, kumatp_error **err) {
	return kumatp_config_parse(data(text), len(text), format, out, err);
}
static kumatp_status config_check(_GoString_ text, uint32_t format, kumatp_text **out, kumatp_error **err) {
	return kumatp_config_check(data(text), len(text), format, out, err);
}
static kumatp_status facts_parse(_GoString_ text, kumatp_facts **out, kumatp_error **err) {
	return kumatp_facts_parse(data(text), len(text), out, err);
}
*/
import "C"

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"
)

func init() {
	if have, want := uint32(C.kumatp_abi_version()), uint32(C.KUMATP_ABI_VERSION); have != want {
		panic(fmt.Sprintf("kumatp: the library has ABI %d, and this program was built for %d", have, want))
	}
}

// Version returns the version of the library.
func Version() string {
	return C.GoString(C.kumatp_version())
}

// Format is the language of a configuration document.
type Format uint32

// The languages of documents. YAML takes JSON as well.
const (
	JSON Format = C.KUMATP_FORMAT_JSON
	YAML Format = C.KUMATP_FORMAT_YAML
)

// Engine is what carries plans out.
type Engine uint32

// The engines.
const (
	Netlink    Engine = C.KUMATP_ENGINE_NETLINK
	Iptables   Engine = C.KUMATP_ENGINE_IPTABLES
	Ebpf       Engine = C.KUMATP_ENGINE_EBPF // in libraries that were built with it
	AllEngines Engine = C.KUMATP_ENGINE_ALL
)

// Syntax is that of rendered rules.
type Syntax uint32

// The syntaxes.
const (
	IptablesRestore Syntax = C.KUMATP_SYNTAX_IPTABLES
	NftScript       Syntax = C.KUMATP_SYNTAX_NFT
	FirewalldXML    Syntax = C.KUMATP_SYNTAX_FIREWALLD
	RulesJSON       Syntax = C.KUMATP_SYNTAX_JSON
	Mermaid         Syntax = C.KUMATP_SYNTAX_MERMAID // a picture
	Dot             Syntax = C.KUMATP_SYNTAX_DOT     // the same for Graphviz
	EbpfText        Syntax = C.KUMATP_SYNTAX_EBPF    // what the engine Ebpf would do, as text to read
)

// Family is an address family; the zero value stands for both.
type Family uint32

// The families.
const (
	Both Family = C.KUMATP_FAMILY_ALL
	IPv4 Family = C.KUMATP_FAMILY_IPV4
	IPv6 Family = C.KUMATP_FAMILY_IPV6
)

// State is what is installed.
type State uint32

// The states.
const (
	Absent     State = C.KUMATP_STATE_ABSENT
	Current    State = C.KUMATP_STATE_CURRENT
	Drifted    State = C.KUMATP_STATE_DRIFTED
	Uncompared State = C.KUMATP_STATE_UNCOMPARED
)

// String returns the name of the state.
func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Current:
		return "current"
	case Drifted:
		return "drifted"
	case Uncompared:
		return "uncompared"
	}
	return fmt.Sprintf("state %d", uint32(s))
}

// Note is something that an operator should know.
type Note struct {
	Severity string `json:"severity"` // "info" or "warning"
	About    string `json:"about"`
	Text     string `json:"text"`
}

// Report tells what an operation did.
type Report struct {
	Changed bool           `json:"changed"`
	Reports []EngineReport `json:"reports"`
}

// EngineReport tells what one engine did.
type EngineReport struct {
	Engine  string   `json:"engine"`
	Changed bool     `json:"changed"`
	Steps   []string `json:"steps"`
	Notes   []Note   `json:"notes"`
}

// Check is what there is to say about a configuration document.
type Check struct {
	Valid    bool             `json:"valid"`
	Problems []Problem        `json:"problems"`
	Notes    []Note           `json:"notes"`
	Kuma     []KumaDifference `json:"kuma"`
}

// KumaDifference is a setting that Kuma's own programs, kuma-dp and kumactl, refuse or read otherwise.
type KumaDifference struct {
	Path     string   `json:"path"`
	Value    string   `json:"value"`
	Programs []string `json:"programs"`
	Refused  bool     `json:"refused"`
	Reason   string   `json:"reason"`
	Message  string   `json:"message"`
}

// handle holds a pointer of the C library. It is in a value of its own, since a cleanup must not reach what it is for.
type handle struct {
	pointer unsafe.Pointer
	free    func(unsafe.Pointer)
}

// hold sees to it that the pointer is freed when its owner is no more.
func hold[T any](owner *T, pointer unsafe.Pointer, free func(unsafe.Pointer)) *handle {
	h := &handle{pointer, free}
	runtime.AddCleanup(owner, (*handle).close, h)
	return h
}

func (h *handle) close() {
	if pointer := atomic.SwapPointer(&h.pointer, nil); pointer != nil {
		h.free(pointer)
	}
}

// use returns the pointer. To use what is closed is a mistake in the program, like sending on a closed channel.
func (h *handle) use() unsafe.Pointer {
	pointer := atomic.LoadPointer(&h.pointer)
	if pointer == nil {
		panic("kumatp: used after Close")
	}
	return pointer
}

// Config is a configuration. It is always valid.
type Config struct {
	handle *handle
}

// ParseConfig reads a configuration document in Kuma's format. Its error is an [*Error] with all problems of the document.
func ParseConfig(document string, format Format) (*Config, error) {
	var out *C.kumatp_config
	var err *C.kumatp_error
	status := C.config_parse(document, C.uint32_t(format), &out, &err)
	return newConfig(out, take(status, err))
}

func newConfig(out *C.kumatp_config, err error) (*Config, error) {
	if err != nil {
		return nil, err
	}
	config := &Config{}
	config.handle = hold(config, unsafe.Pointer(out), func(p unsafe.Pointer) { C.kumatp_config_free((*C.kumatp_config)(p)) })
	return config, nil
}

// CheckConfig looks a configuration document over. A document that is not valid is no error here.
func CheckConfig(document string, format Format) (Check, error) {
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.config_check(document, C.uint32_t(format), &out, &err)
	return decode[Check](out, take(status, err))
}

func (c *Config) c() *C.kumatp_config { return (*C.kumatp_config)(c.handle.use()) }

// Close gives the memory back. The configuration must not be in use; closing it again does nothing.
func (c *Config) Close() { c.handle.close() }

// JSON returns the configuration as a document, with defaults filled in.
func (c *Config) JSON() (string, error) {
	defer runtime.KeepAlive(c)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_config_to_json(c.c(), &out, &err)
	return text(out, take(status, err))
}

// ForKuma returns the configuration as far as Kuma's own programs, kuma-dp and kumactl, can read it. Its notes name what they
// have nothing like.
func (c *Config) ForKuma() (*Config, error) {
	defer runtime.KeepAlive(c)
	var out *C.kumatp_config
	var err *C.kumatp_error
	status := C.kumatp_config_for_kuma(c.c(), &out, &err)
	return newConfig(out, take(status, err))
}

// Notes returns what there is to say about the configuration: unknown keys, settings without effect.
func (c *Config) Notes() ([]Note, error) {
	defer runtime.KeepAlive(c)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_config_notes(c.c(), &out, &err)
	return decode[[]Note](out, take(status, err))
}

// Facts is what is known of a host.
type Facts struct {
	handle *handle
}

func newFacts(pointer *C.kumatp_facts, err error) (*Facts, error) {
	if err != nil {
		return nil, err
	}
	facts := &Facts{}
	facts.handle = hold(facts, unsafe.Pointer(pointer), func(p unsafe.Pointer) { C.kumatp_facts_free((*C.kumatp_facts)(p)) })
	return facts, nil
}

// Probe looks at the host for what a plan for the configuration needs. netns is a file of a network namespace; nil
// stands for that of the process.
func Probe(config *Config, engine Engine, netns *os.File) (*Facts, error) {
	defer runtime.KeepAlive(config)
	defer runtime.KeepAlive(netns)
	var out *C.kumatp_facts
	var err *C.kumatp_error
	status := C.kumatp_facts_probe(config.c(), C.uint32_t(engine), fd(netns), &out, &err)
	return newFacts(out, take(status, err))
}

// CapableHost returns the facts of a host that can do everything, for tests and for rules that are to be shown only.
func CapableHost(sidecarUID uint32) (*Facts, error) {
	var out *C.kumatp_facts
	var err *C.kumatp_error
	status := C.kumatp_facts_capable_host(C.uint32_t(sidecarUID), &out, &err)
	return newFacts(out, take(status, err))
}

// ParseFacts reads facts from a JSON document.
func ParseFacts(document string) (*Facts, error) {
	var out *C.kumatp_facts
	var err *C.kumatp_error
	status := C.facts_parse(document, &out, &err)
	return newFacts(out, take(status, err))
}

func (f *Facts) c() *C.kumatp_facts { return (*C.kumatp_facts)(f.handle.use()) }

// Close gives the memory back. The facts must not be in use; closing them again does nothing.
func (f *Facts) Close() { f.handle.close() }

// JSON returns the facts as a document that ParseFacts reads back.
func (f *Facts) JSON() (string, error) {
	defer runtime.KeepAlive(f)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_facts_to_json(f.c(), &out, &err)
	return text(out, take(status, err))
}

// Plan is the rules of both families that a configuration asks for on a host.
type Plan struct {
	handle *handle
}

// NewPlan makes the rules that a configuration asks for on a host with these facts. It reads and changes nothing.
func NewPlan(config *Config, facts *Facts) (*Plan, error) {
	defer runtime.KeepAlive(config)
	defer runtime.KeepAlive(facts)
	var out *C.kumatp_plan
	var err *C.kumatp_error
	status := C.kumatp_plan_build(config.c(), facts.c(), &out, &err)
	if err := take(status, err); err != nil {
		return nil, err
	}
	plan := &Plan{}
	plan.handle = hold(plan, unsafe.Pointer(out), func(p unsafe.Pointer) { C.kumatp_plan_free((*C.kumatp_plan)(p)) })
	return plan, nil
}

func (p *Plan) c() *C.kumatp_plan { return (*C.kumatp_plan)(p.handle.use()) }

// Close gives the memory back. The plan must not be in use; closing it again does nothing.
func (p *Plan) Close() { p.handle.close() }

// Render returns the rules as text.
func (p *Plan) Render(syntax Syntax, family Family) (string, error) {
	defer runtime.KeepAlive(p)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_plan_render(p.c(), C.uint32_t(syntax), C.uint32_t(family), 0, &out, &err)
	return text(out, take(status, err))
}

// Notes returns what an operator should know about the plan: protections left out, settings without effect.
func (p *Plan) Notes() ([]Note, error) {
	defer runtime.KeepAlive(p)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_plan_notes(p.c(), &out, &err)
	return decode[[]Note](out, take(status, err))
}

// Check asks whether the kernel would take the plan's rules. Nothing changes.
func (p *Plan) Check(netns *os.File) error {
	return p.CheckBy(Netlink, netns)
}

// CheckBy asks whether the kernel would take what this engine, Netlink or Ebpf, makes of the plan. Nothing changes.
func (p *Plan) CheckBy(engine Engine, netns *os.File) error {
	defer runtime.KeepAlive(p)
	defer runtime.KeepAlive(netns)
	var err *C.kumatp_error
	status := C.kumatp_plan_check(p.c(), C.uint32_t(engine), fd(netns), 0, &err)
	return take(status, err)
}

// Apply makes the plan's rules the active ones in a network namespace; nil stands for that of the process.
func (p *Plan) Apply(engine Engine, netns *os.File) (Report, error) {
	defer runtime.KeepAlive(p)
	defer runtime.KeepAlive(netns)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_plan_apply(p.c(), C.uint32_t(engine), fd(netns), 0, &out, &err)
	return decode[Report](out, take(status, err))
}

// State looks at what is installed in a network namespace, by any engine, and how it compares with the plan.
func (p *Plan) State(netns *os.File) (State, error) {
	defer runtime.KeepAlive(p)
	defer runtime.KeepAlive(netns)
	var out *C.kumatp_state
	var err *C.kumatp_error
	status := C.kumatp_state_read(p.c(), fd(netns), 0, &out, &err)
	if err := take(status, err); err != nil {
		return Absent, err
	}
	defer C.kumatp_state_free(out)
	return State(C.kumatp_state_kind(out)), nil
}

// Uninstall removes what any version of kumatp or kumactl has installed in a network namespace, and nothing else.
func Uninstall(engines Engine, netns *os.File) (Report, error) {
	return uninstall(nil, engines, netns)
}

// Uninstall does what the function does, where the configuration says that things are not in their usual places.
func (c *Config) Uninstall(engines Engine, netns *os.File) (Report, error) {
	defer runtime.KeepAlive(c)
	return uninstall(c.c(), engines, netns)
}

func uninstall(config *C.kumatp_config, engines Engine, netns *os.File) (Report, error) {
	defer runtime.KeepAlive(netns)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_uninstall(config, C.uint32_t(engines), fd(netns), 0, &out, &err)
	return decode[Report](out, take(status, err))
}

func fd(netns *os.File) C.int32_t {
	if netns == nil {
		// A goroutine does not know its thread, and threads may be in namespaces of their own.
		return -1
	}
	return C.int32_t(netns.Fd())
}

// text copies a text of the library and frees it.
func text(out *C.kumatp_text, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer C.kumatp_text_free(out)
	return C.GoStringN(C.kumatp_text_data(out), C.int(C.kumatp_text_len(out))), nil
}

// decode reads a document of the library and frees it.
func decode[T any](out *C.kumatp_text, err error) (T, error) {
	var value T
	document, err := text(out, err)
	if err != nil {
		return value, err
	}
	err = json.Unmarshal([]byte(document), &value)
	return value, err
}

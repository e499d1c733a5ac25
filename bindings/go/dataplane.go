package kumatp

/*
#include <kumatp.h>

static kumatp_status dataplane_fill(_GoString_ text, _GoString_ variables, kumatp_text **out, kumatp_error **err) {
	return kumatp_dataplane_fill(_GoStringPtr(text), _GoStringLen(text), _GoStringPtr(variables), _GoStringLen(variables), out, err);
}
static kumatp_status dataplane_parse(_GoString_ text, uint32_t format, kumatp_dataplane **out, kumatp_error **err) {
	return kumatp_dataplane_parse(_GoStringPtr(text), _GoStringLen(text), format, out, err);
}
static kumatp_status dataplane_validate(_GoString_ text, uint32_t format, _GoString_ query, kumatp_dataplane **out, kumatp_error **err) {
	return kumatp_dataplane_validate(_GoStringPtr(text), _GoStringLen(text), format, _GoStringPtr(query), _GoStringLen(query), out, err);
}
static kumatp_status dataplane_reach(const kumatp_dataplane *dataplane, _GoString_ query, kumatp_text **out, kumatp_error **err) {
	return kumatp_dataplane_reach(dataplane, _GoStringPtr(query), _GoStringLen(query), out, err);
}
*/
import "C"

import (
	"encoding/json"
	"runtime"
	"unsafe"
)

// TransparentProxying is the section networking.transparentProxying of a Dataplane.
type TransparentProxying struct {
	RedirectPortInbound  uint16             `json:"redirectPortInbound,omitempty"`  // 0: nothing is redirected
	RedirectPortOutbound uint16             `json:"redirectPortOutbound,omitempty"` // 0: nothing is redirected
	IPFamilyMode         string             `json:"ipFamilyMode,omitempty"`
	DirectAccessServices []string           `json:"directAccessServices,omitempty"`
	ReachableServices    []string           `json:"reachableServices,omitempty"`
	ReachableBackends    *ReachableBackends `json:"reachableBackends,omitempty"` // nil: all; without references: none
}

// ReachableBackends is the backends that a workload may reach.
type ReachableBackends struct {
	Refs []BackendRef `json:"refs,omitempty"`
}

// BackendRef is a reference to one backend by name, or to many by labels.
type BackendRef struct {
	Kind      string            `json:"kind"`
	Name      string            `json:"name,omitempty"`
	Namespace string            `json:"namespace,omitempty"`
	Port      *uint32           `json:"port,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Dataplane is Kuma's resource, as far as it matters to the transparent proxy. It is always valid.
type Dataplane struct {
	handle *handle
}

// DataplaneContent is what was read of a Dataplane.
type DataplaneContent struct {
	Name                string               `json:"name"`
	Mesh                string               `json:"mesh"`
	Labels              map[string]string    `json:"labels"`
	Address             string               `json:"address"`
	Namespace           string               `json:"namespace"`
	Zone                string               `json:"zone"`
	Inbounds            []DataplaneInbound   `json:"inbounds"`
	Outbounds           []BackendRef         `json:"outbounds"`
	Services            []string             `json:"services"`
	TransparentProxying *TransparentProxying `json:"transparentProxying"`
	IsTransparent       bool                 `json:"isTransparent"`
	Origins             []Origin             `json:"origins"` // of each key of Config(nil); empty if that fails
	Notes               []Note               `json:"notes"`
}

// DataplaneInbound is a port that a workload offers.
type DataplaneInbound struct {
	Port        uint16            `json:"port"`
	Address     string            `json:"address"`
	ServicePort uint16            `json:"servicePort"`
	Tags        map[string]string `json:"tags"`
}

// FillDataplane fills the placeholders of a Dataplane's template, such as {{ address }}, as kuma-dp does.
func FillDataplane(template string, variables map[string]string) (string, error) {
	if variables == nil {
		variables = map[string]string{}
	}
	document, problem := json.Marshal(variables)
	if problem != nil {
		return "", problem
	}
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.dataplane_fill(template, string(document), &out, &err)
	return text(out, take(status, err))
}

// ParseDataplane reads a Dataplane in the form of Universal or of Kubernetes. Its error is an [*Error] with all violations, whose
// paths are as Kuma gives them.
func ParseDataplane(document string, format Format) (*Dataplane, error) {
	var out *C.kumatp_dataplane
	var err *C.kumatp_error
	status := C.dataplane_parse(document, C.uint32_t(format), &out, &err)
	return newDataplaneOf(out, take(status, err))
}

// ValidateDataplane reads a Dataplane as [ParseDataplane] does, and checks all of it as Kuma's control plane of that generation does
// ("kuma-3" or "kuma-2.9"; empty is the first). What Kuma accepts although it is plainly a slip is among the notes of
// [Dataplane.Content].
func ValidateDataplane(document string, format Format, profile string) (*Dataplane, error) {
	query := map[string]string{}
	if profile != "" {
		query["profile"] = profile
	}
	how, failure := json.Marshal(query)
	if failure != nil {
		return nil, failure
	}
	var out *C.kumatp_dataplane
	var err *C.kumatp_error
	status := C.dataplane_validate(document, C.uint32_t(format), string(how), &out, &err)
	return newDataplaneOf(out, take(status, err))
}

func newDataplaneOf(out *C.kumatp_dataplane, failure error) (*Dataplane, error) {
	if failure != nil {
		return nil, failure
	}
	dataplane := &Dataplane{}
	dataplane.handle = hold(dataplane, unsafe.Pointer(out), func(p unsafe.Pointer) {
		C.kumatp_dataplane_free((*C.kumatp_dataplane)(p))
	})
	return dataplane, nil
}

func (d *Dataplane) c() *C.kumatp_dataplane { return (*C.kumatp_dataplane)(d.handle.use()) }

// Close gives the memory back. The Dataplane must not be in use; closing it again does nothing.
func (d *Dataplane) Close() { d.handle.close() }

// Content returns what was read.
func (d *Dataplane) Content() (DataplaneContent, error) {
	defer runtime.KeepAlive(d)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_dataplane_to_json(d.c(), &out, &err)
	return decode[DataplaneContent](out, take(status, err))
}

// Config makes the configuration of the host that the workload runs on. base says all else; nil stands for Kuma's defaults.
func (d *Dataplane) Config(base *Config) (*Config, error) {
	defer runtime.KeepAlive(d)
	defer runtime.KeepAlive(base)
	var under *C.kumatp_config
	if base != nil {
		under = base.c()
	}
	var out *C.kumatp_config
	var err *C.kumatp_error
	status := C.kumatp_config_from_dataplane(d.c(), under, &out, &err)
	return newConfig(out, take(status, err))
}

// TransparentProxying returns the section for the Dataplane of a workload whose host is configured so.
func (c *Config) TransparentProxying() (TransparentProxying, error) {
	defer runtime.KeepAlive(c)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_config_to_transparent_proxying(c.c(), &out, &err)
	return decode[TransparentProxying](out, take(status, err))
}

// Compare says where the Dataplane and the configuration of its host disagree.
func (d *Dataplane) Compare(config *Config) ([]Note, error) {
	defer runtime.KeepAlive(d)
	defer runtime.KeepAlive(config)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_dataplane_compare(d.c(), config.c(), &out, &err)
	return decode[[]Note](out, take(status, err))
}

// ReachQuery is what is asked about reachability.
type ReachQuery struct {
	Profile   Profile  `json:"profile,omitempty"`
	Resources []string `json:"resources,omitempty"` // of the mesh, in YAML or JSON, one or more in each text
	Explain   []string `json:"explain,omitempty"`   // names that are to be explained

	TransparentProxy       bool   `json:"transparentProxy,omitempty"`       // kuma-dp runs with --transparent-proxy, as on Kubernetes
	TransparentProxyConfig string `json:"transparentProxyConfig,omitempty"` // what it is given by --transparent-proxy-config
}

// Reachability is what a workload reaches.
type Reachability struct {
	Profile      Profile                       `json:"profile"`
	BackendRule  string                        `json:"backendRule"` // what decides, as text to read
	Backends     []Backend                     `json:"backends"`    // reachable for certain
	ByChance     []Backend                     `json:"byChance"`    // those that Kuma might choose
	Choices      []ReachChoice                 `json:"choices"`     // which of them exclude each other
	ServiceRule  string                        `json:"serviceRule"` // what decides, as text to read
	Services     []string                      `json:"services"`
	Explanations map[string][]ReachExplanation `json:"explanations"` // for each name of the query
	Notes        []Note                        `json:"notes"`
}

// ReachChoice is a reference whose matches Kuma takes by chance.
type ReachChoice struct {
	Path         string     `json:"path"`
	Reference    BackendRef `json:"reference"`
	OneOf        []Backend  `json:"oneOf"` // Kuma takes exactly one of these, of which the first 100 are here
	OneOfCount   int        `json:"oneOfCount"`
	Perhaps      []Backend  `json:"perhaps"` // and any of these, of which the first 100 are here
	PerhapsCount int        `json:"perhapsCount"`
}

// Backend is a backend that is reachable on at least one port.
type Backend struct {
	Kind      string        `json:"kind"`
	Mesh      string        `json:"mesh"`
	Name      string        `json:"name"`
	Namespace string        `json:"namespace"`
	Ports     []BackendPort `json:"ports"` // those that are reachable
}

// BackendPort is a port of a backend.
type BackendPort struct {
	Port uint16 `json:"port"`
	Name string `json:"name"`
}

// ReachExplanation says why a backend, or a service (without a kind), is reachable or not.
type ReachExplanation struct {
	Kind       string             `json:"kind"`
	Namespace  string             `json:"namespace"`
	Mesh       string             `json:"mesh"`
	Name       string             `json:"name"`
	Reachable  bool               `json:"reachable"` // for certain
	Ports      []BackendPort      `json:"ports"`
	ByChance   []BackendPort      `json:"portsByChance"` // those that Kuma might choose
	Rule       string             `json:"rule"`          // what decides, as text to read
	Why        string             `json:"why"`           // the answer in words
	References []ReferenceOutcome `json:"references"`    // where references decide
}

// ReferenceOutcome says what one reference has to do with a backend.
type ReferenceOutcome struct {
	Path      string     `json:"path"`
	Reference BackendRef `json:"reference"`
	Matches   bool       `json:"matches"`
	ByChance  bool       `json:"byChance"`
	Why       string     `json:"why"`
}

// Reach says which services and backends the workload reaches, on which ports, and why.
func (d *Dataplane) Reach(query ReachQuery) (Reachability, error) {
	defer runtime.KeepAlive(d)
	document, problem := json.Marshal(query)
	if problem != nil {
		return Reachability{}, problem
	}
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.dataplane_reach(d.c(), string(document), &out, &err)
	return decode[Reachability](out, take(status, err))
}
